"""Whatever happens in whatever order: one end, nothing after it, no budget exceeded."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from envfarm.core.action import Bash, Finish, Malformed
from envfarm.core.episode import Budgets
from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError, GraderError, ImageError, PolicyError, SandboxError, StoreError, UsageError
from envfarm.core.model_call import ModelCall
from envfarm.core.outcome import Censored, Invalid, Scored
from envfarm.core.trajectory import Step
from envfarm.episodes.events import (
    ActionTimedOut,
    Cancelled,
    Decided,
    Event,
    Failed,
    Graded,
    LeftAlone,
    Observed,
    OutOfContext,
    Resumed,
    Started,
    ThinkingTimedOut,
)
from envfarm.episodes.instructions import Append, AskPolicy, Grade, Instruction, RunTool, Stop
from envfarm.episodes.machine import Machine
from envfarm.testing.factories import LONG_AGO, make_scored, make_spec, make_step

FAILURES: list[type[EnvfarmError]] = [BoxLost, BoxBroken, SandboxError, PolicyError, GraderError, StoreError, ImageError, UsageError]
BUDGETS = st.builds(
    Budgets,
    turns=st.integers(1, 5),
    tokens=st.none() | st.integers(1, 60),
    seconds=st.floats(0.5, 50.0),
    action_s=st.floats(0.1, 20.0),
    observation_chars=st.integers(1, 200),
)
ACTIONS = st.one_of(
    st.builds(Bash, command=st.just("x"), timeout_s=st.none() | st.floats(-1.0, 100.0)),
    st.builds(Finish),
    st.builds(Malformed, raw=st.just("{"), problem=st.text(max_size=20)),
)
OUTCOMES = st.one_of(
    st.floats(0.0, 1.0).map(make_scored),
    st.just(Invalid("grader", retryable=True, detail="no box")),
)


class Episode(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.waiting: Instruction | None = None
        self.stops: list[Stop] = []
        self.steps: list[Step] = []
        self.tokens = 0
        self.tool_seconds_allowed = 0.0
        self.failures: list[type[EnvfarmError]] = []
        self.box_lost = False

    @initialize(budgets=BUDGETS, resumed=st.integers(0, 3))
    def start(self, budgets: Budgets, resumed: int) -> None:
        self.budgets = budgets
        self.machine = Machine(make_spec(budgets=budgets))
        past = [make_step(i, action=Bash(command="x"), duration_s=0.1, call=ModelCall(completion_tokens=3)) for i in range(resumed)]
        self.steps.extend(past)
        self.tokens = 3 * resumed
        self.outage_left = budgets.seconds
        self.deadline = self.now + budgets.seconds - sum(s.duration_s + s.think_s for s in past)
        self.tell(Resumed(past) if past else Started())

    def tell(self, event: Event) -> None:
        ended_before = self.machine.ended
        instructions = self.machine.handle(event, self.now)
        if ended_before:
            assert instructions == []
            return
        assert instructions
        *before, last = instructions
        assert all(isinstance(i, Append) for i in before)
        for instruction in before:
            assert isinstance(instruction, Append)
            assert instruction.step.index == len(self.steps)
            assert len(instruction.step.observation.text) <= self.budgets.observation_chars
            self.steps.append(instruction.step)
        assert not isinstance(last, Append)
        self.waiting = last
        if isinstance(last, Stop):
            self.stops.append(last)
            self.waiting = None
        if isinstance(last, AskPolicy):
            assert len(self.steps) < self.budgets.turns
            assert self.budgets.tokens is None or self.tokens < self.budgets.tokens
            assert 0 < last.timeout_s <= self.deadline - self.now + 1e-6
            assert 0 <= last.longest_outage_s <= self.budgets.seconds
        if isinstance(last, RunTool):
            assert len(self.steps) < self.budgets.turns
            assert self.budgets.tokens is None or self.tokens <= self.budgets.tokens
            assert 0 < last.timeout_s <= min(self.budgets.action_s, self.deadline - self.now + 1e-6)

    @rule(seconds=st.floats(0.0, 10.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: isinstance(self.waiting, AskPolicy))
    @rule(action=ACTIONS, tokens=st.none() | st.integers(0, 30), outage_s=st.just(0.0) | st.floats(0.0, 100.0))
    def decide(self, action: Bash | Finish | Malformed, tokens: int | None, outage_s: float) -> None:
        self.tokens += tokens or 0
        self.now += outage_s
        granted = min(outage_s, self.outage_left)
        self.outage_left -= granted
        self.deadline += granted
        over = self.budgets.tokens is not None and self.tokens > self.budgets.tokens
        if outage_s > granted and self.now >= self.deadline and not over:
            self.failures.append(PolicyError)
        call = ModelCall(completion_tokens=tokens) if tokens is not None else None
        self.tell(Decided(action, call, LONG_AGO, outage_s))

    @precondition(lambda self: isinstance(self.waiting, AskPolicy))
    @rule(event=st.sampled_from([ThinkingTimedOut(), OutOfContext(), LeftAlone()]))
    def do_not_decide(self, event: ThinkingTimedOut | OutOfContext | LeftAlone) -> None:
        self.tell(event)

    @precondition(lambda self: isinstance(self.waiting, AskPolicy))
    @rule(outage_s=st.floats(0.1, 100.0))
    def fail_until_the_end(self, outage_s: float) -> None:
        self.failures.append(PolicyError)
        self.tell(ThinkingTimedOut(outage_s))

    @precondition(lambda self: isinstance(self.waiting, RunTool))
    @rule(text=st.text(max_size=400), code=st.none() | st.integers(0, 255), timed_out=st.booleans())
    def observe(self, text: str, code: int | None, timed_out: bool) -> None:  # noqa: FBT001 - drawn
        self.tell(ActionTimedOut(text, 1.0) if timed_out else Observed(text, 1.0, exit_code=code))

    @precondition(lambda self: isinstance(self.waiting, Grade))
    @rule(outcome=OUTCOMES)
    def grade(self, outcome: Scored | Invalid) -> None:
        self.tell(Graded(outcome))
        assert self.machine.ended

    @rule(kind=st.sampled_from(FAILURES))
    def fail(self, kind: type[EnvfarmError]) -> None:
        if not self.machine.ended:
            self.failures.append(kind)
        self.tell(Failed(kind.policy, kind.__name__))

    @rule()
    def cancel(self) -> None:
        self.tell(Cancelled("enough"))

    @invariant()
    def there_is_at_most_one_end(self) -> None:
        assert len(self.stops) <= 1
        assert bool(self.stops) == (hasattr(self, "machine") and self.machine.ended)

    @invariant()
    def turns_are_kept(self) -> None:
        if hasattr(self, "budgets"):
            assert len(self.steps) <= max(self.budgets.turns, 3)

    @invariant()
    def a_fault_of_the_farm_is_never_a_number(self) -> None:
        if not self.stops or not self.failures:
            return
        if not self.failures[-1].policy.counts:
            assert isinstance(self.stops[0].outcome, Invalid)

    @invariant()
    def only_the_farm_and_people_make_invalids(self) -> None:
        if self.stops and isinstance(self.stops[0].outcome, Invalid):
            blamed = [f for f in self.failures if not f.policy.counts]
            assert blamed or self.stops[0].outcome.cause in {"cancelled", "grader"}

    @invariant()
    def what_ended_by_a_budget_says_which(self) -> None:
        if self.stops and self.stops[0].ended == "truncated":
            outcome = self.stops[0].outcome
            assert isinstance(outcome, Censored)
            assert outcome.partial is not None


TestEpisode = Episode.TestCase
TestEpisode.settings = settings(max_examples=60, stateful_step_count=25)
