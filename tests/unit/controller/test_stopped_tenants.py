"""An operator stops all of a tenant's work."""

import pytest

from envfarm.core.errors import Conflict
from envfarm.core.listing import Cancelled
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import EpisodeRequest, Quota
from envfarm.policies.scripted import Scripted
from envfarm.testing.small_service import SCRIPT, A, SmallService
from tests.unit.controller.trainers_side import TASKS, Gate, asked

pytestmark = pytest.mark.timeout(60)


async def test_a_tenant_is_stopped_whatever_it_has_and_gets_nothing_more(farm: SmallService) -> None:
    gate = Gate()
    farm.policy = lambda spec: gate if spec.run_id.startswith("rollout") else Scripted(SCRIPT)
    await farm.access.add_tenant(A, Quota(active_rollouts=0, live_episodes=0))
    with pytest.raises(Conflict, match="active rollouts"):
        await farm.service.submit(A, asked())
    await farm.access.add_tenant(A, Quota())
    async with farm.playing():
        view = await farm.service.submit(A, asked(TASKS[0]))
        driven = await farm.steps.create(A, EpisodeRequest(task=TASKS[1]), key=None, wait_s=10)
        await gate.reached.wait()
        await farm.access.add_tenant(A, Quota(active_rollouts=0))
        stopped = await farm.service.cancel_all(A, "stopped")
        assert (stopped.rollouts, 2 <= stopped.running_episodes <= 3) == (2, True)
        assert await farm.service.cancel_all(A, "again") == Cancelled(rollouts=0, running_episodes=0)
        for ask in (farm.service.submit(A, asked()), farm.steps.create(A, EpisodeRequest(task=TASKS[1]), key=None, wait_s=0)):
            with pytest.raises(Conflict, match="active rollouts"):
                await ask
        with farm.bells.listen("queue") as heard:
            while farm.host.view.live:
                heard.clear()
                await heard.wait()
    ids = [row.spec.episode_id for _, row in await farm.rollouts.episodes(A, view.id, after=-1, limit=9)]
    outcomes = await farm.episodes.outcomes([*ids, driven.id])
    assert list(outcomes.values()) == [Invalid("cancelled", retryable=False, detail="stopped")] * 3
    assert farm.provider.open_boxes == []
