"""Whose boxes a request is for: the farm's own, whether it says so or not."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core.errors import Conflict, UsageError
from envfarm.core.ids import RunId
from envfarm.core.rollout import EpisodeRequest, RewardRequest
from envfarm.testing.small_service import A, SmallService
from tests.unit.controller.trainers_side import TASKS, asked


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[SmallService]:
    farm = SmallService(tmp_path, sandbox="kubernetes")
    await farm.open()
    yield farm
    await farm.close()


async def sandboxes(farm: SmallService, run: RunId) -> set[str]:
    return {row.spec.sandbox for _, row in await farm.rollouts.episodes(A, run, after=-1, limit=9)}


async def test_a_request_that_names_no_sandbox_is_for_the_farms_own(pods: SmallService) -> None:
    view = await pods.service.submit(A, asked())
    assert view.request.sandbox == "kubernetes"
    assert await sandboxes(pods, view.id) == {"kubernetes"}
    await pods.steps.create(A, EpisodeRequest(task=TASKS[0]), key="e", wait_s=0.0)
    await pods.steps.reward(A, RewardRequest(task=TASKS[0], patch=""), key="r", wait_s=0.0)
    rollouts, _ = await pods.rollouts.mine(A, limit=9)
    assert [await sandboxes(pods, rollout.id) for rollout in rollouts] == [{"kubernetes"}] * 3


async def test_a_sandbox_that_is_named_is_the_farms_or_refused(pods: SmallService) -> None:
    assert (await pods.service.submit(A, asked(sandbox="kubernetes"))).request.sandbox == "kubernetes"
    for ask in (
        pods.service.submit(A, asked(sandbox="local")),
        pods.steps.create(A, EpisodeRequest(task=TASKS[0], sandbox="local"), key=None, wait_s=0.0),
        pods.steps.reward(A, RewardRequest(task=TASKS[0], patch="", sandbox="local"), key=None, wait_s=0.0),
    ):
        with pytest.raises(UsageError, match="this farm's boxes are 'kubernetes', not 'local'"):
            await ask


async def test_a_key_stands_for_the_request_as_it_was_sent(pods: SmallService) -> None:
    first = await pods.service.submit(A, asked(), key="k")
    assert (await pods.service.submit(A, asked(), key="k")).id == first.id
    with pytest.raises(Conflict):
        await pods.service.submit(A, asked(members=3), key="k")
