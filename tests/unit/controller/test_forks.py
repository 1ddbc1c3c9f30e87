"""Forks of step-driven episodes: the same past in another box, said to be so or not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from envfarm.controller.step_episodes import POLICY_NAME
from envfarm.core.action import Action, Bash, Finish
from envfarm.core.episode import Budgets, PolicySpec
from envfarm.core.errors import Conflict, NotFound, UsageError
from envfarm.core.ids import EpisodeId
from envfarm.core.outcome import Invalid, Scored
from envfarm.core.rollout import (
    EpisodeRequest,
    EpisodeView,
    ForkRequest,
    LeaseRequest,
    RolloutRequest,
    StepRequest,
    TaskSelector,
)
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.testing.scripted_box import ScriptedBox
from envfarm.testing.small_service import A, B, SmallService

pytestmark = pytest.mark.timeout(60)
ASKED = EpisodeRequest(task="made-up/t0", seed=7)


@pytest.fixture
async def farm(tmp_path: Path) -> AsyncIterator[SmallService]:
    farm = SmallService(tmp_path)
    await farm.open()
    async with farm.playing():
        yield farm
    await farm.close()


async def act(farm: SmallService, episode: EpisodeId, *commands: str | Action) -> None:
    for command in commands:
        action = Bash(command=command) if isinstance(command, str) else command
        view = await farm.steps.get(A, episode)
        step = StepRequest(step_id=f"{view.turns}", action=action)
        assert (await farm.steps.step(A, episode, step, wait_s=30.0)).done


async def begun(farm: SmallService, *commands: str) -> EpisodeId:
    view = await farm.steps.create(A, ASKED, key=None, wait_s=30.0)
    await act(farm, view.id, *commands)
    return view.id


async def forked(farm: SmallService, episode: EpisodeId, key: str | None = None, **asked: object) -> EpisodeView:
    return await farm.forks.fork(A, episode, ForkRequest.model_validate(asked), key=key, wait_s=30.0)


async def commands(farm: SmallService, episode: EpisodeId) -> list[str]:
    steps = (await farm.trajectories.read(episode)).steps
    return [s.action.command for s in steps if isinstance(s.action, Bash)]


def counting() -> Callable[[ScriptedBox, ExecRequest], Awaitable[ExecResult]]:
    """Boxes whose every answer is another one."""
    said = 0

    async def answer(_: ScriptedBox, __: ExecRequest) -> ExecResult:
        nonlocal said
        said += 1
        return ExecResult(exit_code=0, stdout=f"{said}".encode())

    return answer


async def test_a_fork_has_the_same_past_and_a_future_of_its_own(farm: SmallService) -> None:
    parent = await begun(farm, "one", "two")
    fork = await forked(farm, parent)
    assert (fork.state, fork.turns, fork.observation) == ("ready", 2, (await farm.steps.get(A, parent)).observation)
    assert fork.branch is not None
    assert (fork.branch.episode, fork.branch.turns, fork.branch.agreed) == (parent, 2, True)
    await act(farm, fork.id, "three", Finish())
    await act(farm, parent, "four")
    assert await commands(farm, fork.id) == ["one", "two", "three"]
    assert await commands(farm, parent) == ["one", "two", "four"]
    ended = await farm.steps.get(A, fork.id, wait_s=30.0)
    assert isinstance(ended.outcome, Scored)
    assert ended.branch == fork.branch
    again = await forked(farm, fork.id)
    assert (again.turns, again.branch and again.branch.agreed) == (3, True), "of one that is over, before its end"


async def test_where_a_fork_came_from_is_read_from_its_record_once(farm: SmallService) -> None:
    fork = await forked(farm, await begun(farm, "one"))
    record = farm.trajectories.path(fork.id)
    there = record.read_bytes()
    record.write_text("long, and not read again")
    assert (await farm.steps.get(A, fork.id)).branch == fork.branch
    record.write_bytes(there)


async def test_a_fork_goes_on_from_a_snapshot_or_after_so_many_steps(farm: SmallService) -> None:
    parent = await begun(farm, "one")
    snapshot = await farm.forks.snapshot(A, parent)
    await act(farm, parent, "two", "three")
    assert (await forked(farm, parent, snapshot=snapshot.snapshot)).turns == snapshot.turns == 1
    assert (await forked(farm, parent, turns=2)).turns == 2
    first = await forked(farm, parent, turns=0)
    assert (first.turns, first.branch and first.branch.agreed) == (0, True)
    name = snapshot.snapshot
    for turns, wrong in ((4, ""), (None, "2-" + name[2:]), (None, "x"), (2, name)):
        with pytest.raises(UsageError):
            await forked(farm, parent, turns=turns, snapshot=wrong)


async def test_a_key_makes_one_fork_and_another_place_is_a_conflict(farm: SmallService) -> None:
    parent = await begun(farm, "one", "two")
    fork = await forked(farm, parent, "k")
    assert (await forked(farm, parent, "k")).id == fork.id
    await act(farm, parent, "three")
    assert (await forked(farm, parent, "k")).id == fork.id, "the same request, though its parent has gone on"
    with pytest.raises(Conflict):
        await forked(farm, parent, "k", turns=1)


async def test_a_box_that_answers_otherwise_is_said_to(farm: SmallService) -> None:
    farm.provider.answer = counting()
    parent = await begun(farm, "one", "two")
    fork = await forked(farm, parent)
    assert (fork.state, fork.turns, fork.observation) == ("ready", 0, None)
    assert fork.branch is not None
    assert fork.branch.agreed is False
    assert "differed at step 0" in fork.branch.detail


async def test_whoever_waits_for_a_fork_has_not_left_its_parent(farm: SmallService) -> None:
    short = ASKED.model_copy(update={"budgets": Budgets(idle_s=4.0)})
    parent = await farm.steps.create(A, short, key=None, wait_s=30.0)
    await farm.versions.pause(A, POLICY_NAME, paused=True)
    fork = await farm.forks.fork(A, parent.id, ForkRequest(), key=None, wait_s=5.0)
    assert (fork.state, (await farm.steps.get(A, parent.id)).state) == ("queued", "ready")


async def test_a_fork_of_a_rollouts_episode_is_driven_by_the_trainer(farm: SmallService) -> None:
    wanted = RolloutRequest(tasks=TaskSelector(names=("made-up/t0",)), policy=PolicySpec(name="nop"))
    await farm.service.submit(A, wanted)
    (group,) = await farm.service.lease_results(A, LeaseRequest(wait_s=30.0))
    fork = await forked(farm, group.result.members[0].episode)
    assert (fork.state, fork.turns) == ("ready", 1)


async def test_a_tenant_forks_nothing_of_anothers(farm: SmallService) -> None:
    parent = await begun(farm, "one")
    with pytest.raises(NotFound):
        await farm.forks.fork(B, parent, ForkRequest(), key=None, wait_s=0.0)
    with pytest.raises(NotFound):
        await farm.forks.snapshot(B, parent)


async def test_a_fork_that_is_killed_goes_on_from_its_own_record(tmp_path: Path) -> None:
    first = SmallService(tmp_path)
    await first.open()
    async with first.playing():
        parent = await begun(first, "one", "two")
        fork = await forked(first, parent)
        await act(first, fork.id, "three")
    second = SmallService(tmp_path)
    async with second.playing():
        view = await second.steps.get(A, fork.id, wait_s=30.0)
        assert (view.state, view.turns, view.branch and view.branch.agreed) == ("ready", 3, True)
    for farm in (first, second):
        await farm.close()


async def test_a_fork_that_died_while_it_copied_its_past_copies_it_again(farm: SmallService) -> None:
    parent = await begun(farm, "one", "two", "three")
    await farm.versions.pause(A, POLICY_NAME, paused=True)
    fork = await farm.forks.fork(A, parent, ForkRequest(), key=None, wait_s=0.0)
    assert fork.branch is not None
    assert (fork.state, fork.branch.agreed) == ("queued", None)
    told = await farm.trajectories.read(parent)
    spec = (await farm.rollouts.episode(A, fork.id)).spec
    torn = told.header.model_copy(update={"episode": spec, "agreed": True})
    await farm.trajectories.append(fork.id, torn)
    await farm.trajectories.append(fork.id, told.steps[0])
    await farm.versions.pause(A, POLICY_NAME, paused=False)
    view = await farm.steps.get(A, fork.id, wait_s=30.0)
    assert (view.state, view.turns) == ("ready", 3)


async def test_a_parent_whose_record_is_gone_is_no_zero(farm: SmallService) -> None:
    parent = await begun(farm, "one")
    await farm.versions.pause(A, POLICY_NAME, paused=True)
    fork = await farm.forks.fork(A, parent, ForkRequest(), key=None, wait_s=0.0)
    await farm.trajectories.forget([parent])
    await farm.versions.pause(A, POLICY_NAME, paused=False)
    ended = await farm.steps.get(A, fork.id, wait_s=30.0)
    assert isinstance(ended.outcome, Invalid)
    assert "are gone" in ended.outcome.detail
