import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.action import Action, Bash, Decision, Finish, StrReplace
from envfarm.core.episode import Budgets
from envfarm.core.errors import BoxBroken, BoxLost, ContextExhausted, GraderError, ImageError, PolicyError, SandboxError, StoreError
from envfarm.core.ids import EpisodeId
from envfarm.core.outcome import Censored, Invalid, Outcome, Scored
from envfarm.core.plan import Mode
from envfarm.core.sampled import Sampled
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.core.trajectory import End, Header, Step, Trajectory
from envfarm.episodes.runner import SYSTEM_MOUNTS, Assignment, EpisodeRunner
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import CannedGrader, HeldClock, make_environment, make_plan, make_scored, make_spec, make_task
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider


@dataclass
class Player:
    """Plays a list; an exception in it is raised."""

    script: list[Action | Exception]
    seen: list[tuple[Step, ...]] = field(default_factory=list)

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:  # noqa: ARG002 - the contract asks for it
        self.seen.append(tuple(history))
        move = self.script[len(history)]
        if isinstance(move, Exception):
            raise move
        return Decision(move)


async def echo(box: ScriptedBox, request: ExecRequest) -> ExecResult:
    if request.session:
        box.files[f"/testbed/{len(box.requests)}"] = request.shell.encode()
        return ExecResult(exit_code=0, stdout=f"ran {request.shell}\n".encode())
    return ExecResult(exit_code=1)


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider(answer=echo, files={"/testbed/a.py": b"x"})


@pytest.fixture
def grader() -> CannedGrader:
    return CannedGrader()


@pytest.fixture
def store(tmp_path: Path) -> FileTrajectories:
    return FileTrajectories(tmp_path)


@pytest.fixture
def runner(provider: ScriptedProvider, grader: CannedGrader, store: FileTrajectories) -> EpisodeRunner:
    return EpisodeRunner(provider, grader, store, HeldClock(), grade_again_s=(0.0, 0.0))


SPEC = make_spec(budgets=Budgets(turns=10))
TWO: list[Action | Exception] = [Bash(command="one"), Bash(command="two"), Finish(message="done")]


def job(script: Sequence[Action | Exception], **fields: object) -> Assignment:
    defaults: dict[str, object] = {"spec": SPEC, "task": make_task(), "environment": make_environment(), "policy": Player(list(script))}
    return Assignment(**{**defaults, **fields})  # type: ignore[arg-type]  # fields are checked by the tests themselves


async def test_an_episode_is_played_recorded_graded_and_its_box_closed(
    runner: EpisodeRunner, provider: ScriptedProvider, grader: CannedGrader, store: FileTrajectories
) -> None:
    outcome = await runner.run(job(TWO))
    assert outcome == make_scored(1.0)
    told = await store.read(SPEC.episode_id)
    assert [s.action for s in told.steps] == TWO
    assert told.steps[0].observation.text == "ran one\n[exit status 0]"
    assert told.end is not None
    assert (told.end.ended, told.end.outcome) == ("finished", outcome)
    assert told.header.box == "scripted:box-0"
    assert grader.changes[0].paths == ("testbed/1", "testbed/2")
    assert provider.open_boxes == []
    assert provider.boxes[0].calls[-4:] == ["quiesce", "diff", "stats", "close"]


@pytest.mark.parametrize("mode", ["isolated", "replayed", "shared"])
async def test_only_shared_tasks_are_graded_in_the_agents_own_box(
    runner: EpisodeRunner, provider: ScriptedProvider, grader: CannedGrader, mode: Mode
) -> None:
    await runner.run(job(TWO, task=make_task(plan=make_plan(mode=mode))))
    assert grader.boxes == (provider.boxes if mode == "shared" else [])
    assert provider.open_boxes == []


async def test_each_step_is_durable_before_the_next_is_asked_for(runner: EpisodeRunner, store: FileTrajectories) -> None:
    recorded: list[int] = []

    class Watching(Player):
        async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
            recorded.append(len((await store.read(SPEC.episode_id)).steps))
            return await super().next_action(instruction, history)

    await runner.run(job([], policy=Watching(list(TWO))))
    assert recorded == [0, 1, 2]


async def test_the_boxes_get_the_tasks_limits_and_the_episodes_labels(
    runner: EpisodeRunner, provider: ScriptedProvider, grader: CannedGrader
) -> None:
    await runner.run(job([Finish()], epoch=4))
    (graders,) = grader.holders
    assert (graders.run_id, graders.episode_id, graders.epoch) == (SPEC.run_id, SPEC.episode_id, 4)
    assert graders.deadline is not None
    assert (graders.deadline - HeldClock().now()).total_seconds() > make_task().limits.verifier_s
    spec = provider.boxes[0].spec
    limits = make_task().limits
    assert (spec.memory_mib, spec.pids, spec.episode_id, spec.run_id, spec.epoch) == (
        limits.memory_mib,
        limits.pids,
        SPEC.episode_id,
        SPEC.run_id,
        4,
    )
    assert spec.deadline is not None
    assert (spec.deadline - HeldClock().now()).total_seconds() > limits.agent_s + limits.verifier_s


@pytest.mark.parametrize(("mode", "marked"), [("isolated", (("/testbed",), ())), ("replayed", (("/",), SYSTEM_MOUNTS))])
async def test_the_starting_tree_is_marked_as_the_mode_wants(
    runner: EpisodeRunner, provider: ScriptedProvider, mode: str, marked: object
) -> None:
    await runner.run(job([Finish()], task=make_task(plan=make_plan(mode=mode))))
    assert provider.boxes[0].marked == marked


async def test_a_tasks_own_time_limit_holds_below_the_budget(runner: EpisodeRunner, provider: ScriptedProvider) -> None:
    task = make_task(limits=make_task().limits.model_copy(update={"agent_s": 7.0}))
    await runner.run(job(TWO, task=task))
    assert provider.boxes[0].requests[0].timeout_s == 7.0


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (SandboxError("no room"), "sandbox"),
        (ImageError("no image"), "image"),
        (BoxBroken("silent"), "sandbox"),
        (OSError("odd"), "sandbox"),
    ],
)
async def test_a_box_that_cannot_be_made_is_invalid(
    runner: EpisodeRunner, provider: ScriptedProvider, error: Exception, cause: str
) -> None:
    provider.create_failures.append(error)
    outcome = await runner.run(job(TWO))
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == (cause, True)


async def test_a_box_that_cannot_be_marked_is_invalid_and_closed(runner: EpisodeRunner, provider: ScriptedProvider) -> None:
    provider.prepare = lambda box: box.fail("mark", SandboxError("no space"))
    outcome = await runner.run(job(TWO))
    assert outcome == Invalid("sandbox", retryable=True, detail="no space")
    assert provider.open_boxes == []


async def test_a_lost_box_is_invalid(runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories) -> None:
    provider.prepare = lambda box: box.fail("exec", BoxLost("node gone"))
    outcome = await runner.run(job(TWO))
    assert outcome == Invalid("sandbox", retryable=True, detail="node gone")
    end = (await store.read(SPEC.episode_id)).end
    assert end is not None
    assert (end.ended, end.action) == ("failed", TWO[0])


async def test_an_agent_that_broke_its_box_is_graded_by_what_can_still_be_had(
    runner: EpisodeRunner, provider: ScriptedProvider, grader: CannedGrader
) -> None:
    provider.prepare = lambda box: box.fail("exec", BoxBroken("silent"))
    assert await runner.run(job(TWO)) == make_scored(1.0)
    assert len(grader.changes) == 1


async def never(_box: ScriptedBox, request: ExecRequest) -> ExecResult:
    if request.session:
        await asyncio.Event().wait()
    return ExecResult(exit_code=1)


@pytest.mark.parametrize(
    ("says", "outcome"),
    [
        (BoxLost("node gone"), Invalid("sandbox", retryable=True, detail="node gone")),
        (BoxBroken("silent"), make_scored(1.0)),
        (None, make_scored(1.0)),
    ],
    ids=["lost", "silent", "only this is late"],
)
async def test_a_box_with_which_a_tool_does_not_end_is_asked_before_it_is_blamed(
    runner: EpisodeRunner, provider: ScriptedProvider, says: Exception | None, outcome: Outcome
) -> None:
    provider.answer = never
    if says is not None:
        provider.prepare = lambda box: box.fail("stats", says)
    spec = make_spec(budgets=Budgets(turns=10, action_s=0.05))
    assert await runner.run(job([Bash(command="sleep"), Finish(message="done")], spec=spec, grace_s=0.05)) == outcome


@pytest.mark.parametrize("verb", ["quiesce", "diff"])
@pytest.mark.parametrize("error", [BoxBroken("silent"), SandboxError("the tree is too large to carry")])
async def test_an_agent_cannot_buy_a_retry_with_a_box_that_gives_no_change(
    runner: EpisodeRunner, provider: ScriptedProvider, verb: str, error: Exception
) -> None:
    provider.prepare = lambda box: box.fail(verb, error)  # type: ignore[arg-type]
    outcome = await runner.run(job(TWO))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "the agent broke its own box" in outcome.why


async def test_a_change_is_not_believed_while_something_lives_on_in_the_box(
    runner: EpisodeRunner, provider: ScriptedProvider, grader: CannedGrader
) -> None:
    provider.prepare = lambda box: box.survivors.append("7 daemon")
    outcome = await runner.run(job(TWO))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "7 daemon" in outcome.why
    assert grader.changes == []


async def test_a_box_lost_while_its_change_is_taken_is_invalid(runner: EpisodeRunner, provider: ScriptedProvider) -> None:
    provider.prepare = lambda box: box.fail("diff", BoxLost("node gone"))
    assert await runner.run(job(TWO)) == Invalid("sandbox", retryable=True, detail="node gone")


@pytest.mark.parametrize("error", [PolicyError("down"), RuntimeError("bug"), TimeoutError()])
async def test_a_policy_that_fails_is_invalid_whatever_it_raises(runner: EpisodeRunner, error: Exception) -> None:
    outcome = await runner.run(job([Bash(command="one"), error]))
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == ("policy", True)


async def test_a_conversation_that_is_too_long_is_censored_and_graded(runner: EpisodeRunner) -> None:
    outcome = await runner.run(job([Bash(command="one"), ContextExhausted("too long")]))
    assert outcome == Censored("tokens", make_scored(1.0))


@pytest.mark.parametrize("error", [GraderError("no box"), ValueError("bug")])
async def test_a_grader_that_fails_is_invalid(runner: EpisodeRunner, grader: CannedGrader, error: Exception) -> None:
    grader.outcomes = [error]
    outcome = await runner.run(job(TWO))
    assert isinstance(outcome, Invalid)
    assert outcome.cause == "grader"
    assert len(grader.changes) == 3, "the same change, a few times"


async def test_a_policy_that_thinks_too_long_is_censored(runner: EpisodeRunner) -> None:
    class Slow(Player):
        async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:  # noqa: ARG002 - the contract asks for it
            await asyncio.Event().wait()
            raise AssertionError

    spec = make_spec(budgets=Budgets(seconds=0.05))
    assert await runner.run(job([], spec=spec, policy=Slow([]))) == Censored("seconds", make_scored(1.0))


@dataclass
class Away(Player):
    """Its endpoint was away for a while in every call; it then takes its time, or never answers."""

    outage_s: float = 0.0
    takes_s: float | None = None

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
        if self.takes_s is None:
            await asyncio.Event().wait()
        await asyncio.sleep(self.takes_s or 0.0)
        return await super().next_action(instruction, history)


async def test_an_endpoint_that_is_away_costs_the_agent_nothing(runner: EpisodeRunner) -> None:
    spec = make_spec(budgets=Budgets(seconds=1.0))
    assert await runner.run(job([], spec=spec, policy=Away(list(TWO), outage_s=0.4, takes_s=0.4))) == make_scored(1.0)


async def test_an_endpoint_that_is_away_for_as_long_again_as_the_budget_is_waited_for_no_longer(runner: EpisodeRunner) -> None:
    spec = make_spec(budgets=Budgets(seconds=0.05))
    outcome = await runner.run(job([], spec=spec, policy=Away([], outage_s=3600.0)))
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == ("policy", True)


async def test_a_budget_that_ends_in_a_failing_call_is_the_policys_fault(runner: EpisodeRunner, grader: CannedGrader) -> None:
    spec = make_spec(budgets=Budgets(seconds=0.05))
    outcome = await runner.run(job([], spec=spec, policy=Away([], outage_s=0.01)))
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == ("policy", True)
    assert grader.changes == []


class Full(FileTrajectories):
    """Has no room for one kind of line."""

    def __init__(self, directory: Path, refused: type[Step | End]) -> None:
        super().__init__(directory)
        self._refused = refused

    async def append(self, episode: EpisodeId, line: Header | Step | Sampled | End) -> None:
        if isinstance(line, self._refused):
            raise StoreError("no space left")
        await super().append(episode, line)


async def test_a_store_that_fails_is_invalid_and_nothing_more_is_run(
    provider: ScriptedProvider, grader: CannedGrader, tmp_path: Path
) -> None:
    outcome = await EpisodeRunner(provider, grader, Full(tmp_path, Step), HeldClock()).run(job(TWO))
    assert outcome == Invalid("store", retryable=True, detail="no space left")
    assert len(provider.boxes[0].requests) == 1
    assert grader.changes == []


async def test_an_end_that_cannot_be_written_takes_the_score_back(provider: ScriptedProvider, grader: CannedGrader, tmp_path: Path) -> None:
    outcome = await EpisodeRunner(provider, grader, Full(tmp_path, End), HeldClock()).run(job(TWO))
    assert outcome == Invalid("store", retryable=True, detail="no space left")


async def test_interrupting_closes_the_box_and_leaves_the_episode_open(
    runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories
) -> None:
    reached = asyncio.Event()

    async def hang(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        if request.shell == "two":
            reached.set()
            await asyncio.Event().wait()
        return await echo(box, request)

    provider.answer = hang
    task = asyncio.create_task(runner.run(job(TWO)))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert provider.open_boxes == []
    told = await store.read(SPEC.episode_id)
    assert len(told.steps) == 1
    assert told.end is None


async def test_closing_is_finished_although_it_is_interrupted(runner: EpisodeRunner, provider: ScriptedProvider) -> None:
    closing, let_go = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedBox):
        async def close(self) -> None:
            closing.set()
            await let_go.wait()
            await super().close()

    class SlowProvider(ScriptedProvider):
        async def create(self, spec: SandboxSpec) -> ScriptedBox:
            box = Slow(spec, echo)
            self.boxes.append(box)
            return box

    slow = SlowProvider(answer=echo)
    runner.provider = slow
    task = asyncio.create_task(runner.run(job([Finish()])))
    await closing.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.open_boxes == []


async def test_calling_off_ends_the_episode_for_good(runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories) -> None:
    cancel = asyncio.Event()

    async def hang(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        cancel.set()
        await asyncio.Event().wait()
        raise AssertionError

    provider.answer = hang
    outcome = await runner.run(job(TWO, cancel=cancel))
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == ("cancelled", False)
    end = (await store.read(SPEC.episode_id)).end
    assert end is not None
    assert end.ended == "cancelled"
    assert provider.open_boxes == []


async def interrupted(store: FileTrajectories, runner: EpisodeRunner) -> Trajectory:
    await runner.run(job([*TWO[:2], PolicyError("down")]))
    return await store.read(SPEC.episode_id)


async def test_a_resumed_episode_replays_its_steps_and_goes_on(
    runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories, grader: CannedGrader
) -> None:
    earlier = await interrupted(store, runner)
    player = Player(list(TWO))
    assert await runner.run(job([], policy=player, earlier=earlier)) == make_scored(1.0)
    assert [len(h) for h in player.seen] == [2]
    second = provider.boxes[1]
    assert [r.shell for r in second.requests if r.session] == ["one", "two"]
    told = await store.read(SPEC.episode_id)
    assert (told.header.attempt, told.header.resumed) == (1, 2)
    assert "down" in told.header.started_because
    assert "2 recorded steps replayed and agreed" in told.header.started_because
    assert [s.index for s in told.steps] == [0, 1, 2]
    assert told.steps[:2] == earlier.steps
    assert len(await store.attempts(SPEC.episode_id)) == 2
    assert grader.changes[-1].paths == ("testbed/1", "testbed/2")


async def test_a_replay_that_differs_starts_the_episode_again_and_says_so(
    runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories
) -> None:
    earlier = await interrupted(store, runner)

    async def other(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        return ExecResult(exit_code=0, stdout=b"now different\n" if request.shell == "two" else b"ran one\n")

    provider.answer = other
    player = Player(list(TWO))
    assert await runner.run(job([], policy=player, earlier=earlier)) == make_scored(1.0)
    assert [len(h) for h in player.seen] == [0, 1, 2]
    assert provider.open_boxes == []
    assert len(provider.boxes) == 3
    told = await store.read(SPEC.episode_id)
    assert "the replay differed at step 1, so the episode started again" in told.header.started_because
    assert told.header.attempt == 2


async def test_an_outcome_that_was_recorded_but_not_committed_is_not_played_again(
    runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories
) -> None:
    first = await runner.run(job(TWO))
    assert await runner.run(job(TWO, earlier=await store.read(SPEC.episode_id))) == first
    assert len(provider.boxes) == 1


async def test_the_change_for_people_comes_from_git_or_is_listed(
    runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories
) -> None:
    await runner.run(job(TWO))
    listed = await store.read(SPEC.episode_id)
    assert listed.end is not None
    assert "now: /testbed/1\n+one" in listed.end.change

    async def with_git(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        if "git" in " ".join(request.argv):
            return ExecResult(exit_code=0, stdout=b"diff --git a/x b/x\n")
        return await echo(box, request)

    provider.answer = with_git
    other = make_spec(1)
    await runner.run(job(TWO, spec=other))
    told = await store.read(other.episode_id)
    assert told.end is not None
    assert told.end.change == "diff --git a/x b/x\n"


async def test_a_tool_that_the_box_refuses_is_the_models_to_mend(
    runner: EpisodeRunner, provider: ScriptedProvider, store: FileTrajectories
) -> None:
    provider.prepare = lambda box: box.fail("exec", SandboxError("no such directory"))
    await runner.run(job([StrReplace(path="x", old="", new="y"), Finish()]))
    assert (await store.read(SPEC.episode_id)).steps[0].observation.is_error


async def test_the_agents_box_is_gone_before_the_graders_is_made(provider: ScriptedProvider, store: FileTrajectories) -> None:
    open_then: list[int] = []

    class Watching(CannedGrader):
        async def grade(self, *given: Any, **named: Any) -> Outcome:
            open_then.append(len(provider.open_boxes))
            return await super().grade(*given, **named)

    for mode in ("isolated", "shared"):
        task = make_task(plan=make_plan(mode=mode))
        assert await EpisodeRunner(provider, Watching(), store, HeldClock()).run(job(TWO, task=task)) == make_scored(1.0)
    assert open_then == [0, 1]
    assert provider.open_boxes == []
