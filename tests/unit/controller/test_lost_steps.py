"""Step-driven episodes whose box is lost: a trainer's step is carried out behind those that it has taken, or not at all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.errors import BoxLost, Conflict, GraderError
from envfarm.core.ids import EpisodeId
from envfarm.core.outcome import Invalid, Scored
from envfarm.core.rollout import EpisodeRequest, EpisodeView, ForkRequest, StepRequest, StepView
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.testing.factories import make_scored
from envfarm.testing.scripted_box import ScriptedBox
from envfarm.testing.small_service import A, SmallService

pytestmark = pytest.mark.timeout(60)


class Clocked:
    """Boxes that echo commands, but for `date`, which is another one each time; the box of the first `lose` is lost."""

    def __init__(self) -> None:
        self.dates = 0
        self.lost = False

    async def __call__(self, box: ScriptedBox, request: ExecRequest) -> ExecResult:
        if request.shell == "lose" and not self.lost:
            self.lost = True
            raise BoxLost("the node died")
        self.dates += request.shell == "date"
        if request.session:
            box.files[f"/testbed/{request.shell}"] = b"made"
        return ExecResult(exit_code=0, stdout=f"{self.dates}".encode() if request.shell == "date" else request.shell.encode())


@pytest.fixture
async def farm(tmp_path: Path) -> AsyncIterator[SmallService]:
    farm = SmallService(tmp_path, grade_again_s=(0.0,))
    farm.provider.answer = Clocked()
    await farm.open(tasks=1)
    async with farm.playing():
        yield farm
    await farm.close()


async def begun(farm: SmallService) -> EpisodeId:
    return (await farm.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=30.0)).id


async def act(farm: SmallService, episode: EpisodeId, step_id: str, action: str | Action) -> StepView:
    taken = Bash(command=action) if isinstance(action, str) else action
    return await farm.steps.step(A, episode, StepRequest(step_id=step_id, action=taken), wait_s=30.0)


async def ended(farm: SmallService, episode: EpisodeId) -> EpisodeView:
    view = await farm.steps.get(A, episode, wait_s=30.0)
    assert view.state == "ended"
    return view


async def test_an_episode_that_cannot_be_brought_back_ends_and_takes_no_further_step(farm: SmallService) -> None:
    episode = await begun(farm)
    await act(farm, episode, "0", "fix")
    await act(farm, episode, "1", "date")
    with pytest.raises(Conflict, match="the episode is over"):
        await act(farm, episode, "2", "lose")
    view = await ended(farm, episode)
    assert isinstance(view.outcome, Invalid)
    assert (view.outcome.cause, view.outcome.retryable, view.turns) == ("sandbox", False, 2)
    assert "the node died; the replay differed at step 1" in view.outcome.detail
    assert "begin another episode" in view.outcome.detail
    assert [r.shell for box in farm.provider.boxes for r in box.requests if r.session] == ["fix", "date", "lose", "fix", "date"]
    assert (farm.grader.changes, farm.provider.open_boxes) == ([], [])


async def test_a_fork_that_agreed_and_cannot_be_brought_back_ends_too(farm: SmallService) -> None:
    parent = await begun(farm)
    await act(farm, parent, "0", "pwd")
    clocked = farm.provider.answer
    fork = await farm.forks.fork(A, parent, ForkRequest(), key=None, wait_s=30.0)
    assert fork.branch is not None
    assert (fork.branch.agreed, fork.turns) == (True, 1)

    async def other(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        return ExecResult(exit_code=3) if request.shell == "pwd" else await clocked(box, request)

    farm.provider.answer = other
    with pytest.raises(Conflict, match="the episode is over"):
        await act(farm, fork.id, "1", "lose")
    assert isinstance((await ended(farm, fork.id)).outcome, Invalid)


async def test_one_that_is_brought_back_goes_on_where_its_trainer_is(farm: SmallService) -> None:
    episode = await begun(farm)
    await act(farm, episode, "0", "fix")
    seen = await act(farm, episode, "1", "lose")
    assert (seen.done, seen.observation and seen.observation.text, seen.episode.turns) == (True, "lose\n[exit status 0]", 2)
    await act(farm, episode, "2", Finish())
    assert isinstance((await ended(farm, episode)).outcome, Scored)
    assert farm.grader.changes[-1].paths == ("testbed/fix", "testbed/lose")


@pytest.mark.parametrize(
    "failure", [GraderError("the grader's node died"), Invalid("sandbox", retryable=True, detail="the grader's box was lost")]
)
async def test_a_change_that_could_not_be_graded_is_graded_again_and_not_made_again(
    farm: SmallService, failure: GraderError | Invalid
) -> None:
    farm.grader.outcomes = [failure, make_scored(0.5)]
    episode = await begun(farm)
    actions: tuple[str | Action, ...] = ("fix", "date", Finish())
    for n, action in enumerate(actions):
        await act(farm, episode, str(n), action)
    outcome = (await ended(farm, episode)).outcome
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.5
    assert [change.paths for change in farm.grader.changes] == [("testbed/date", "testbed/fix")] * 2
    assert len(farm.provider.boxes) == 1
