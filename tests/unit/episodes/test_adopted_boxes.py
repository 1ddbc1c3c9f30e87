"""An episode whose host died while its box lives."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from envfarm.core.action import Action, Bash, Decision, Finish
from envfarm.core.errors import BoxBroken, EnvfarmError, PolicyError, SandboxError
from envfarm.core.outcome import Outcome
from envfarm.core.sandbox import BoxStats, ExecRequest, ExecResult
from envfarm.core.trajectory import Step, Trajectory
from envfarm.core.usage import Bill
from envfarm.episodes.runner import Assignment, EpisodeRunner
from envfarm.episodes.tools import commands_of
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import CannedGrader, HeldClock, make_environment, make_plan, make_scored, make_spec, make_task
from envfarm.testing.scripted_box import LastingProvider, ScriptedBox

SPEC = make_spec()
SCRIPT: tuple[Action, ...] = (Bash(command="one"), Bash(command="two"), Finish(message="done"))


async def echo(box: ScriptedBox, request: ExecRequest) -> ExecResult:
    if request.shell == "never ends":
        await asyncio.Event().wait()
    if request.session:
        box.files[f"/testbed/{request.shell}"] = b"x"
        return ExecResult(exit_code=0, stdout=f"ran {request.shell}\n".encode())
    return ExecResult(exit_code=1)


@dataclass
class Thinker:
    """Plays a list, and thinks for ever about what it does not have."""

    script: Sequence[Action]
    asked_at: list[int] = field(default_factory=list)

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:  # noqa: ARG002 - the contract asks for it
        self.asked_at.append(len(history))
        if len(history) == len(self.script):
            await asyncio.Event().wait()
        return Decision(self.script[len(history)])


@pytest.fixture
def provider() -> LastingProvider:
    return LastingProvider(answer=echo)


@pytest.fixture
def store(tmp_path: Path) -> FileTrajectories:
    return FileTrajectories(tmp_path)


@pytest.fixture
def grader() -> CannedGrader:
    return CannedGrader()


@pytest.fixture
def runner(provider: LastingProvider, grader: CannedGrader, store: FileTrajectories) -> EpisodeRunner:
    return EpisodeRunner(provider, grader, store, HeldClock(), grade_again_s=())


def job(script: Sequence[Action], **fields: object) -> Assignment:
    defaults: dict[str, object] = {"spec": SPEC, "task": make_task(), "environment": make_environment(), "policy": Thinker(script)}
    return Assignment(**{**defaults, **fields})  # type: ignore[arg-type]  # fields are checked by the tests themselves


@asynccontextmanager
async def left(runner: EpisodeRunner, store: FileTrajectories, provider: LastingProvider, *played: Action) -> AsyncIterator[Trajectory]:
    """What a host leaves that is heard of no more when it has played this; its last action may not have ended."""
    silent = asyncio.create_task(runner.run(job(played)))
    async with asyncio.timeout(30):
        while (earlier := await store.last(SPEC.episode_id)) is None or len(earlier.steps) < sum(a != NEVER for a in played):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while len([r for r in provider.boxes[0].requests if r.session]) < len(played):  # noqa: ASYNC110 - a box tells nobody
            await asyncio.sleep(0.01)
    yield earlier
    silent.cancel()
    await asyncio.gather(silent, return_exceptions=True)


NEVER = Bash(command="never ends")


@pytest.mark.parametrize("many", [0, 1, 2])
async def test_it_goes_on_in_its_box_and_nothing_runs_again(
    runner: EpisodeRunner, provider: LastingProvider, store: FileTrajectories, grader: CannedGrader, many: int
) -> None:
    async with left(runner, store, provider, *SCRIPT[:many]) as earlier:
        player = Thinker(SCRIPT)
        assert await runner.run(job([], policy=player, earlier=earlier, epoch=1)) == make_scored(1.0)
    assert player.asked_at == list(range(many, 3))
    (box,) = provider.boxes
    assert box.closed
    assert [r.shell for r in box.requests if r.session] == ["one", "two"]
    assert provider.asked == [(box.box_id, commands_of(many))]
    told = await store.read(SPEC.episode_id)
    assert (told.header.attempt, told.header.resumed, told.header.epoch) == (1, many, 1)
    assert told.header.started_because == "the previous attempt was interrupted; its box lived and was adopted"
    assert told.steps[:many] == earlier.steps
    assert [step.index for step in told.steps] == [0, 1, 2]
    assert grader.changes[-1].paths == ("testbed/one", "testbed/two")


async def test_a_box_in_which_a_further_action_was_begun_is_not_gone_on_with(
    runner: EpisodeRunner, provider: LastingProvider, store: FileTrajectories
) -> None:
    async with left(runner, store, provider, SCRIPT[0], NEVER) as earlier:
        assert len(earlier.steps) == 1
        assert await runner.run(job(SCRIPT, earlier=earlier)) == make_scored(1.0)
    told = await store.read(SPEC.episode_id)
    assert "1 recorded step replayed and agreed" in told.header.started_because
    assert told.header.box == "scripted:box-1"


@pytest.mark.parametrize("refusal", [SandboxError("the cluster does not answer"), BoxBroken("boxd is silent")])
async def test_a_box_that_cannot_be_had_is_replaced_by_a_replay(
    runner: EpisodeRunner, provider: LastingProvider, store: FileTrajectories, refusal: EnvfarmError
) -> None:
    provider.refusal = refusal
    async with left(runner, store, provider, SCRIPT[0]) as earlier:
        assert await runner.run(job(SCRIPT, earlier=earlier)) == make_scored(1.0)
    assert "replayed and agreed" in (await store.read(SPEC.episode_id)).header.started_because


async def test_no_box_is_asked_for_that_its_host_has_closed_or_that_is_of_another_environment(
    runner: EpisodeRunner, provider: LastingProvider, store: FileTrajectories
) -> None:
    class Fails(Thinker):
        async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
            if history:
                raise PolicyError("down")
            return await super().next_action(instruction, history)

    await runner.run(job([], policy=Fails(SCRIPT)))
    earlier = await store.read(SPEC.episode_id)
    assert earlier.end is not None
    assert await runner.run(job(SCRIPT, earlier=earlier)) == make_scored(1.0)
    unended = earlier.model_copy(update={"end": None})
    other = make_environment(work_dir="/elsewhere")
    assert await runner.run(job(SCRIPT, earlier=unended, environment=other)) == make_scored(1.0)
    assert provider.asked == []


async def test_who_hands_over_leaves_its_box_to_the_next(runner: EpisodeRunner, provider: LastingProvider, store: FileTrajectories) -> None:
    over, bill, next_bill = asyncio.Event(), Bill(), Bill()
    async with interrupted(runner, store, provider, handed_over=over, bill=bill) as playing:
        over.set()
        playing.cancel()
    (box,) = provider.boxes
    assert provider.left == [box.box_id]
    assert not box.closed
    assert await runner.run(job(SCRIPT, earlier=await store.read(SPEC.episode_id), epoch=1, bill=next_bill)) == make_scored(1.0)
    assert [each.total.boxes for each in (bill, next_bill)] == [1, 0], "it is one box"
    assert [each.total.unmeasured for each in (bill, next_bill)] == [0, 0]
    assert "was adopted" in (await store.read(SPEC.episode_id)).header.started_because
    assert provider.boxes == [box]
    assert box.closed


async def test_who_is_interrupted_while_it_adopts_closes_the_box(
    runner: EpisodeRunner, provider: LastingProvider, store: FileTrajectories, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with left(runner, store, provider, SCRIPT[0]) as earlier:
        asked = asyncio.Event()

        async def never(_: ScriptedBox) -> BoxStats:
            if asked.is_set():
                return BoxStats()
            asked.set()
            return await asyncio.Future()

        monkeypatch.setattr(ScriptedBox, "stats", never)
        adopting = asyncio.create_task(runner.run(job(SCRIPT, earlier=earlier, epoch=1)))
        await asked.wait()
        adopting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await adopting
        assert provider.open_boxes == []


@pytest.mark.parametrize(
    "case",
    [{}, {"task": make_task(plan=make_plan(mode="shared"))}, {"fork": ()}],
    ids=["it is only interrupted", "it is graded in place", "a fork"],
)
async def test_in_all_other_cases_its_box_is_closed(
    runner: EpisodeRunner, provider: LastingProvider, store: FileTrajectories, case: dict[str, object]
) -> None:
    over = asyncio.Event()
    async with interrupted(runner, store, provider, handed_over=over, **case) as playing:
        if case:
            over.set()
        playing.cancel()
    assert provider.left == []
    assert provider.open_boxes == []


@asynccontextmanager
async def interrupted(
    runner: EpisodeRunner, store: FileTrajectories, provider: LastingProvider, **fields: object
) -> AsyncIterator[asyncio.Task[Outcome]]:
    """An episode whose policy thinks about its second action, and that the block interrupts."""
    playing = asyncio.create_task(runner.run(job(SCRIPT[:1], **fields)))
    async with asyncio.timeout(30):
        while (record := await store.last(SPEC.episode_id)) is None or not record.steps:  # noqa: ASYNC110 - a journal tells nobody
            await asyncio.sleep(0.01)
    assert provider.open_boxes
    yield playing
    with pytest.raises(asyncio.CancelledError):
        await playing
