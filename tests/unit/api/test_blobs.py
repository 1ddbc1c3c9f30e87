"""What a record keeps by reference can be had, by whoever has the record, and nothing else can."""

from pathlib import Path

import httpx

from envfarm.api.app import create_app
from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import RolloutRequest, TaskSelector
from envfarm.core.sampled import Sampled, SampledCall
from envfarm.core.trajectory import Header
from envfarm.stores.access import SCOPES
from envfarm.testing.factories import make_environment
from envfarm.testing.small_service import A, B, SmallService

EXPERTS = bytes(range(256)) * 40


async def test_routed_experts_are_given_to_whoever_has_the_record(tmp_path: Path) -> None:
    farm = SmallService(tmp_path)
    await farm.open(tasks=1)
    asked = RolloutRequest(tasks=TaskSelector(names=("made-up/t0",)), policy=PolicySpec(name="nop"))
    await farm.service.submit(A, asked)
    (episode,) = [info.id for info in (await farm.lists.episodes(A, limit=1))[0]]
    spec = (await farm.rollouts.episode(A, episode)).spec
    kept, other = await farm.blobs.put(EXPERTS), await farm.blobs.put(b"a task's checkout")
    call = SampledCall(
        index=0, prompt_length=1, added_ids=(1,), completion_ids=(2,), logprobs=(-0.5,), finish_reason="stop", engine="a", experts=kept
    )
    header = Header(episode=spec, environment_digest=make_environment().digest, instruction="", box="b", attempt=0, epoch=0)
    for line in (header, Sampled(episode=episode, calls=(call,))):
        await farm.trajectories.append(episode, line)
    tokens = [await farm.access.issue(tenant, "t", SCOPES) for tenant in (A, B)]
    mine, theirs = ({"Authorization": f"Bearer {token}"} for token in tokens)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(farm.services)), base_url="http://farm") as http:
        got = await http.get(f"/v1/episodes/{episode}/blobs/{kept.digest}", headers=mine)
        assert (got.status_code, got.content) == (200, EXPERTS)
        for digest, headers, status in ((other.digest, mine, 404), (kept.digest, theirs, 404), ("sha256:0", mine, 422)):
            assert (await http.get(f"/v1/episodes/{episode}/blobs/{digest}", headers=headers)).status_code == status
        farm.trajectories.path(episode).write_text("long, and not read for it")
        assert (await http.get(f"/v1/episodes/{episode}/blobs/{kept.digest}", headers=mine)).content == EXPERTS
        farm.blobs.path(kept.digest).unlink()
        assert (await http.get(f"/v1/episodes/{episode}/blobs/{kept.digest}", headers=mine)).status_code == 404
    await farm.close()
