"""What is over goes, all of it, and leaves no file behind."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from envfarm.controller.retention import Retention
from envfarm.core.episode import PolicySpec
from envfarm.core.errors import NotFound, StoreError
from envfarm.core.ids import EpisodeId, RunId
from envfarm.core.rollout import RolloutRequest, TaskSelector
from envfarm.core.trajectory import End, Header
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import make_scored, make_spec
from envfarm.testing.small_service import A, SmallService


async def forgotten(farm: SmallService, rollout: RunId) -> None:
    while True:
        try:
            await farm.rollouts.get(A, rollout)
        except NotFound:
            return


async def called_off(farm: SmallService, members: int) -> RunId:
    request = RolloutRequest(tasks=TaskSelector(), group_size=members, policy=PolicySpec(name="nop"))
    rollout = (await farm.service.submit(A, request)).id
    await farm.service.cancel(A, rollout)
    return rollout


async def test_one_batch_follows_another_until_nothing_is_left(tmp_path: Path) -> None:
    farm = SmallService(tmp_path)
    await farm.open()
    batches: list[int] = []

    async def gone(episodes: Sequence[EpisodeId]) -> None:
        batches.append(len(episodes))

    rollouts = [await called_off(farm, members) for members in (500, 1)]
    forgetting = asyncio.create_task(Retention(farm.results, gone, keep_s=0.0, keep_bills_s=0.0).run(every_s=3600.0))
    for rollout in rollouts:
        await forgotten(farm, rollout)
    assert sum(batches) == 3 * 501
    assert len(batches) > 1
    forgetting.cancel()
    await farm.close()


async def test_files_go_before_rows_so_that_none_is_left_by_whoever_dies_in_between(tmp_path: Path) -> None:
    farm = SmallService(tmp_path)
    await farm.open()
    rollout = await called_off(farm, 1)
    episodes = [row.spec.episode_id for _, row in await farm.rollouts.episodes(A, rollout, after=-1, limit=9)]
    for episode in episodes:
        await farm.trajectories.append(episode, Header(episode=make_spec(0), environment_digest="d", instruction="i", box="b"))
    fails = [StoreError("killed here")]

    async def gone(some: Sequence[EpisodeId]) -> None:
        assert (await farm.rollouts.get(A, rollout)).state == "cancelled", "the rows are there, to be found again"
        await farm.trajectories.forget(some)
        if fails:
            raise fails.pop()

    forgetting = asyncio.create_task(Retention(farm.results, gone, keep_s=0.0, keep_bills_s=0.0).run(every_s=0.01))
    await forgotten(farm, rollout)
    assert not [episode for episode in episodes if farm.trajectories.path(episode).exists()]
    assert not fails
    forgetting.cancel()
    await farm.close()


async def test_nothing_is_remembered_of_a_record_that_has_its_end(tmp_path: Path) -> None:
    store, spec = FileTrajectories(tmp_path), make_spec(0)
    header = Header(episode=spec, environment_digest="d", instruction="i", box="b")
    for _ in range(2):
        await store.append(spec.episode_id, header)
        await store.append(spec.episode_id, End(ended="finished", outcome=make_scored(), seconds=1.0))
        assert store._ends == {}
    assert len(await store.attempts(spec.episode_id)) == 2
