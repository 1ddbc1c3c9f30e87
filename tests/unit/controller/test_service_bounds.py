"""What one tenant may cost the others: copies of what it asked for, and its followers."""

import asyncio

import pytest
from sqlalchemy import event

from envfarm.controller.service import ServiceOptions
from envfarm.core.episode import PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.rollout import TaskSelector
from envfarm.stores.rollouts import SHOWN_BYTES
from envfarm.testing.small_service import A, SmallService
from tests.unit.controller.trainers_side import asked

pytestmark = pytest.mark.timeout(60)


async def test_what_each_episode_or_group_has_a_copy_of_is_bounded(farm: SmallService) -> None:
    farm.service._options = ServiceOptions(most_policy_bytes=600, most_metadata_bytes=20)
    policy = PolicySpec(name="scripted", options={"text": "x" * 89})
    with pytest.raises(UsageError, match="100 bytes for each of 7 episodes, and may have 600 in one rollout") as refused:
        await farm.service.submit(A, asked("made-up/t0", members=7).model_copy(update={"policy": policy}))
    assert "fewer episodes" in refused.value.hint
    await farm.service.submit(A, asked("made-up/t0", members=6).model_copy(update={"policy": policy}))
    with pytest.raises(UsageError, match="the metadata has 21 bytes, and may have 20"):
        await farm.service.submit(A, asked(metadata={"step": "\U0001f511" * 2 + "xx"}))
    await farm.service.submit(A, asked(metadata={"step": "\U0001f511" * 2 + "x"}))


async def test_a_policys_options_are_short_but_for_a_change(farm: SmallService) -> None:
    farm.service._options = ServiceOptions(most_options_bytes=50)
    for name, taken in (("scripted", False), ("patch", True)):
        request = asked("made-up/t0").model_copy(update={"policy": PolicySpec(name=name, options={"patch": "x" * 50})})
        if taken:
            await farm.service.submit(A, request)
        else:
            with pytest.raises(UsageError, match="options have 62 bytes, and may have 50"):
                await farm.service.submit(A, request)


async def test_what_is_long_in_a_request_is_shown_to_who_asks_for_it(farm: SmallService) -> None:
    policy = PolicySpec(name="scripted", options={"text": "x" * SHOWN_BYTES})
    short = asked("made-up/t0", sandbox="local")
    request = short.model_copy(update={"policy": policy, "tasks": TaskSelector(names=("made-up/t0",) * 2000), "seed": 1})
    asked_for = await farm.service.submit(A, request)
    (listed,), _ = await farm.rollouts.mine(A, limit=10)
    for view in (asked_for, listed, await farm.service.get(A, asked_for.id), await farm.service.cancel(A, asked_for.id)):
        assert (view.left_out, view.request.tasks.names, view.request.policy.options) == (("tasks.names", "policy.options"), (), {})
    whole = await farm.service.get(A, asked_for.id, whole=True)
    assert (whole.left_out, whole.request) == ((), request)
    assert (await farm.service.submit(A, short)).left_out == ()


async def test_followers_of_one_rollout_look_together_and_at_no_episode(farm: SmallService) -> None:
    farm.service._options = ServiceOptions(recheck_s=3600.0)
    view = await farm.service.submit(A, asked())
    looks: list[str] = []
    begun = asyncio.Semaphore(0)

    @event.listens_for(farm.engine, "before_cursor_execute")
    def note(*about: object) -> None:
        looks.append(str(about[2]))

    async def follow() -> list[str]:
        kinds: list[str] = []
        async for happened in farm.service.events(A, view.id):
            kinds.append(happened.kind)
            begun.release()
        return kinds

    followers = [asyncio.create_task(follow()) for _ in range(50)]
    for _ in followers:
        await begun.acquire()
    await farm.rollouts.cancel(A, view.id, "enough")
    farm.bells.ring(view.id)
    assert await asyncio.gather(*followers) == [["accepted", "cancelled"]] * 50
    assert sum("FROM events" in look for look in looks) < 10
    assert not any("count(" in look for look in looks)
