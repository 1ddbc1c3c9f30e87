"""The rules of an episode, without any I/O: events in, instructions out.

It has no clock (each event comes with the time), no box, no policy and no store. What a failure means is read from the failure's class.
Budgets, the cutting of observations, and the end of an episode and what it counts as are decided here and nowhere else.
"""

from enum import Enum, auto
from typing import Literal

from envfarm.core import digest
from envfarm.core.action import Action, Finish, Malformed
from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import Cause, FailurePolicy, PolicyError, SandboxError
from envfarm.core.observation import Observation
from envfarm.core.outcome import Censored, Finding, Integrity, Invalid, Outcome, Scored, TestReport
from envfarm.core.plan import Mode
from envfarm.core.sampled import Sampled
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
    ProgramEnded,
    Resumed,
    Started,
    ThinkingTimedOut,
)
from envfarm.episodes.instructions import Append, AskPolicy, Grade, Instruction, Keep, RunProgram, RunTool, Stop
from envfarm.episodes.truncation import cut

Budget = Literal["turns", "tokens", "seconds", "idle"]


NOT_RUN: dict[str, str] = {
    "tokens": "This action was not run: the budget of tokens is used up.",
    "seconds": "This action was not run: the budget of time is used up.",
    "turns": "This action was not run: the budget of turns is used up.",
}


class OutOfOrderError(RuntimeError):
    """An event that is impossible in this phase: a bug of the caller, not a failure of the episode."""


class _Phase(Enum):
    NEW = auto()
    THINKING = auto()
    ACTING = auto()
    GRADING = auto()
    ENDED = auto()


class Machine:
    """One episode. `now` is in seconds and never goes back; `mode` is how the task is graded.

    `whole`: the agent is a program that is run once, instead of a policy that is asked for actions.
    """

    def __init__(self, spec: EpisodeSpec, *, mode: Mode = "isolated", whole: bool = False) -> None:
        self._whole = whole
        self._budgets = spec.budgets
        self._mode: Mode = mode
        self._phase = _Phase.NEW
        self._turns = 0
        self._tokens = 0
        self._deadline = 0.0
        self._asked_at = 0.0
        self._outage_left_s = spec.budgets.seconds
        self._decided: tuple[Decided, float] | None = None
        self._cut_by: Budget | None = None
        self._failed = False

    @property
    def ended(self) -> bool:
        """Whether `Stop` was returned."""
        return self._phase is _Phase.ENDED

    @property
    def turns(self) -> int:
        """Steps so far."""
        return self._turns

    def handle(self, event: Event, now: float) -> list[Instruction]:  # noqa: C901, PLR0911 - one line per event is the clearest table
        """The next instructions; none after the end."""
        if self._phase is _Phase.ENDED:
            return []
        match event:
            case Started():
                return self._start((), now)
            case Resumed(steps):
                return self._start(tuple(steps), now)
            case Decided():
                return self._decide(event, now)
            case ThinkingTimedOut(outage_s):
                self._expect(event, _Phase.THINKING)
                if outage_s > 0:  # asked again after an outage, it had no full time to answer
                    return self._away_too_long(outage_s)
                return self._grade("seconds")
            case OutOfContext() | LeftAlone():
                self._expect(event, _Phase.THINKING)
                return self._grade("idle" if isinstance(event, LeftAlone) else "tokens")
            case Observed() | ActionTimedOut():
                return self._observe(event, now)
            case ProgramEnded():
                return self._judge(event)
            case Graded(outcome):
                self._expect(event, _Phase.GRADING)
                return self._finish(outcome)
            case Failed(policy, detail):
                return self._fail(policy, detail)
            case Cancelled(reason):
                return self._stop("cancelled", Invalid(cause=Cause.CANCELLED.value, retryable=False, detail=reason))

    def _start(self, steps: tuple[Step, ...], now: float) -> list[Instruction]:
        self._expect(Started(), _Phase.NEW)
        spent = sum(s.think_s + s.duration_s for s in steps)
        self._deadline = now + self._budgets.seconds - spent
        if self._whole:
            self._phase = _Phase.ACTING
            return [RunProgram(self._budgets.seconds, self._outage_left_s)]
        self._turns = len(steps)
        self._tokens = sum(_tokens(s) for s in steps)
        if steps and isinstance(steps[-1].action, Finish) and not self._tokens_are_over:
            return self._grade(None)
        return self._ask_or_end(now)

    def _judge(self, event: ProgramEnded) -> list[Instruction]:
        self._expect(event, _Phase.ACTING)
        self._decided = (Decided(event.command, None, event.at), 0.0)
        lines: list[Instruction] = [self._step(event.seen), Keep(event.sampled)]
        if unanswered := _unanswered(event):
            return [*lines, *self._fail(PolicyError.policy, unanswered)]
        budget = _used_up(event.sampled)
        if budget is None and isinstance(event.seen, ActionTimedOut):
            if event.sampled.outage_s >= self._outage_left_s:  # outages beyond the allowed time took some of the program's time
                return [*lines, *self._away_too_long(event.sampled.outage_s)]
            budget = "seconds"
        return [*lines, *self._grade(budget)]

    def _decide(self, event: Decided, now: float) -> list[Instruction]:
        self._expect(event, _Phase.THINKING)
        self._decided = (event, max(now - self._asked_at - event.outage_s, 0.0))
        granted_s = min(event.outage_s, self._outage_left_s)
        self._deadline += granted_s
        self._outage_left_s -= granted_s
        self._tokens += (event.call.completion_tokens or 0) if event.call else 0
        # A decision that exceeds a budget is recorded, but its action is not run.
        if self._tokens_are_over:
            return [self._step(Observed(NOT_RUN["tokens"], 0.0, is_error=True)), *self._grade("tokens")]
        if now >= self._deadline:
            step = self._step(Observed(NOT_RUN["seconds"], 0.0, is_error=True))
            return [step, *(self._away_too_long(event.outage_s) if event.outage_s > granted_s else self._grade("seconds"))]
        match event.action:
            case Finish():
                return [self._step(Observed("", 0.0)), *self._grade(None)]
            case Malformed(problem=problem):
                return [self._step(Observed(f"This is not a valid action: {problem}", 0.0, is_error=True)), *self._ask_or_end(now)]
            case action:
                self._phase = _Phase.ACTING
                return [RunTool(action, self._turns, self._action_timeout_s(action, now))]

    def _observe(self, event: Observed | ActionTimedOut, now: float) -> list[Instruction]:
        self._expect(event, _Phase.ACTING)
        return [self._step(event), *self._ask_or_end(now)]

    def _ask_or_end(self, now: float) -> list[Instruction]:
        if self._turns >= self._budgets.turns:
            return self._grade("turns")
        if self._budgets.tokens is not None and self._tokens >= self._budgets.tokens:
            return self._grade("tokens")
        if now >= self._deadline:
            return self._grade("seconds")
        self._phase = _Phase.THINKING
        self._asked_at = now
        return [AskPolicy(self._deadline - now, self._outage_left_s)]

    def _step(self, event: Observed | ActionTimedOut) -> Append:
        if self._decided is None:
            raise OutOfOrderError("an observation without a decision")
        decided, think_s = self._decided
        self._decided = None
        timed_out = isinstance(event, ActionTimedOut)
        shown = cut(event.text, self._budgets.observation_chars)
        step = Step(
            index=self._turns,
            action=decided.action,
            observation=Observation(
                text=shown.text,
                exit_code=None if isinstance(event, ActionTimedOut) else event.exit_code,
                timed_out=timed_out,
                truncated=shown.lost or event.truncated,
                is_error=isinstance(event, Observed) and event.is_error,
            ),
            started_at=decided.at,
            duration_s=event.duration_s,
            think_s=think_s,
            cores=event.cores,
            call=decided.call,
            observation_digest=observation_digest(event),
        )
        self._turns += 1
        return Append(step)

    def _grade(self, budget: Budget | None) -> list[Instruction]:
        self._cut_by = budget
        self._phase = _Phase.GRADING
        return [Grade()]

    def _fail(self, policy: FailurePolicy, detail: str) -> list[Instruction]:
        if policy.grade and self._phase in {_Phase.THINKING, _Phase.ACTING}:
            self._failed = True
            return self._grade(None)
        if policy.counts and self._phase is not _Phase.NEW:
            return self._finish(self._broken(detail))
        if policy.counts:  # nothing of the agent ran yet: a box broken from the start is an infrastructure failure
            policy = SandboxError.policy
        return self._stop("failed", Invalid(cause=policy.cause.value, retryable=policy.retry, detail=detail))

    def _away_too_long(self, outage_s: float) -> list[Instruction]:
        return self._fail(PolicyError.policy, f"the time ended during an outage of the policy's endpoint, after {outage_s:.0f} s of it")

    def _finish(self, outcome: Outcome) -> list[Instruction]:
        # If the infrastructure spoiled the grading, the outcome stays Invalid even after a budget ran out: a Censored without a partial
        # score would make a failure of the farm look like an agent that achieved nothing.
        if isinstance(outcome, Invalid) or self._failed:
            return self._stop("failed", outcome)
        if self._cut_by is not None:
            partial = outcome.partial if isinstance(outcome, Censored) else outcome
            return self._stop("truncated", Censored(self._cut_by, partial))
        return self._stop("finished", outcome)

    def _broken(self, detail: str) -> Scored:
        self._failed = self._failed or self._cut_by is None
        return Scored(
            reward=0.0,
            components={"f2p": 0.0, "p2p": 0.0, "integrity": 0.0},
            report=TestReport(),
            integrity=Integrity(self._mode, (Finding("box answers", ok=False, detail=detail),)),
            why=f"the agent broke its own box: {detail}",
        )

    def _stop(self, ended: Literal["finished", "truncated", "failed", "cancelled"], outcome: Outcome) -> list[Instruction]:
        self._phase = _Phase.ENDED
        return [Stop(ended, outcome, self._decided[0].action if self._decided else None)]

    def _action_timeout_s(self, action: Action, now: float) -> float:
        asked = getattr(action, "timeout_s", None)
        limits = [self._budgets.action_s, self._deadline - now]
        if asked is not None and asked > 0:
            limits.append(asked)
        return min(limits)

    @property
    def _tokens_are_over(self) -> bool:
        return self._budgets.tokens is not None and self._tokens > self._budgets.tokens

    def _expect(self, event: Event, phase: _Phase) -> None:
        if self._phase is not phase:
            raise OutOfOrderError(f"{type(event).__name__} while {self._phase.name.lower()}")


def observation_digest(event: Observed | ActionTimedOut) -> str:
    """The digest of an observation as the box returned it, before it was cut. Durations are not included."""
    if isinstance(event, ActionTimedOut):
        return digest.of_json({"text": event.text, "timed_out": True})
    return digest.of_json({"text": event.text, "exit_code": event.exit_code, "is_error": event.is_error})


def reached_the_box(step: Step) -> bool:
    """Whether a recorded step ran in the box, so that a replay must run it again."""
    if isinstance(step.action, Finish | Malformed):
        return False
    return step.observation.text not in NOT_RUN.values() or not step.observation.is_error


def _tokens(step: Step) -> int:
    return (step.call.completion_tokens or 0) if step.call else 0


def _unanswered(ended: ProgramEnded) -> str:
    """Why it is unknown what the agent would have done; empty if its model answered. Only the gateway's account is used."""
    sampled = ended.sampled
    if sampled.last == "failed":
        return f"the program's last call failed: {sampled.failures[-1].detail if sampled.failures else 'no detail is known'}"
    if sampled.calls or sampled.last == "context":
        return ""
    said = ended.seen.text.strip()[-300:]
    return f"no call of the program was answered by a model{f'; it said: {said}' if said else ''}"


def _used_up(sampled: Sampled) -> Budget | None:
    if sampled.last == "context":  # only the last call counts: a program may shorten or leave a conversation that became too long
        return "tokens"
    return sampled.spent if sampled.spent in ("turns", "tokens") else None
