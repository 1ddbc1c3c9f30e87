"""A trainer on a real Ray gets the records of finished groups as objects."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from envfarm.client import AsyncClient, PolicySpec, RolloutRequest, TaskSelector
from envfarm.core.outcome import Invalid
from envfarm.testing.factories import make_scored
from tests.integration.api.conftest import Site
from tests.integration.ray_head import needed

pytestmark = needed
ROOT = Path(__file__).parents[3]


async def test_records_are_read_again_where_their_node_is_lost_and_what_is_invalid_has_none(site: Site) -> None:
    site.farm.grader.outcomes = [Invalid("grader", retryable=False, detail="no box"), make_scored()]
    names = ("made-up/t0", "made-up/t1")
    async with AsyncClient(site.url, site.token) as farm:
        asked = RolloutRequest(tasks=TaskSelector(names=names), group_size=2, policy=PolicySpec(name="nop"))
        rollout = (await farm.submit(asked)).id
        program = [sys.executable, "-m", "tests.integration.api.ray_trainer", site.url, site.token, rollout]
        done = await asyncio.to_thread(subprocess.run, program, check=False, capture_output=True, text=True, timeout=300, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-4000:]
        got = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))  # Ray tells of the lost node there, too
        assert len(got) == 2
        kept = {e.spec.episode_id: e async for e in farm.trajectories(rollout)}
        counting = {name for name, episode in kept.items() if episode.outcome and episode.outcome.kind != "invalid"}
        assert len(kept) == 4
        assert len(counting) == 3
        assert {episode for told in got.values() for episode, _ in told} == counting
        assert all(tools == ["bash", "finish"] for told in got.values() for _, tools in told)
        assert (await farm.rollout(rollout)).groups == {"acknowledged": 2}
