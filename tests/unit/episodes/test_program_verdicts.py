"""What an episode comes to whose agent is a program: by the gateway's account, whatever the program said."""

from typing import Any, Literal

import pytest

from envfarm.core.action import Bash
from envfarm.core.episode import Budgets
from envfarm.core.errors import BoxBroken, BoxLost
from envfarm.core.outcome import Censored, Invalid, Scored
from envfarm.core.sampled import CallFailure, Sampled, SampledCall
from envfarm.episodes.events import ActionTimedOut, Failed, Graded, Observed, ProgramEnded, Started
from envfarm.episodes.instructions import Append, Grade, Keep, RunProgram, Stop
from envfarm.episodes.machine import Machine
from envfarm.testing.factories import LONG_AGO, make_scored, make_spec

SPEC = make_spec(budgets=Budgets(seconds=50))
CALL = SampledCall(index=0, prompt_length=1, added_ids=(1,), completion_ids=(2,), logprobs=(-0.5,), finish_reason="stop", engine="a")
FAILURE = CallFailure(cause="policy", detail="out of memory")
ENDED = Observed("said", 1.0, exit_code=1)
LATE = ActionTimedOut("said", 50.0)


def begun() -> Machine:
    m = Machine(SPEC, whole=True)
    assert m.handle(Started(), 5.0) == [RunProgram(50.0, 50.0)]
    return m


def ended(seen: Observed | ActionTimedOut = ENDED, **told: Any) -> ProgramEnded:
    return ProgramEnded(Bash(command="agent"), seen, Sampled.model_validate({"episode": SPEC.episode_id, **told}), LONG_AGO)


def test_a_program_is_one_step_and_then_graded_whatever_its_status() -> None:
    m, event = begun(), ended(calls=(CALL,), last="answered")
    step, kept, grade = m.handle(event, 6.0)
    assert isinstance(step, Append)
    assert (step.step.action, step.step.observation.exit_code) == (Bash(command="agent"), 1)
    assert (kept, grade) == (Keep(event.sampled), Grade())
    assert m.handle(Graded(make_scored(1.0)), 7.0) == [Stop("finished", make_scored(1.0))]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (ended(), "no call of the program was answered by a model; it said: said"),
        (ended(LATE), "no call of the program was answered"),
        (ended(spent="turns"), "no call of the program was answered"),
        (ended(calls=(CALL,), failures=(FAILURE,), last="failed"), "out of memory"),
        (ended(calls=(CALL,), failures=(FAILURE,), last="failed", spent="turns"), "out of memory"),
    ],
)
def test_what_no_model_answered_is_the_policys_fault(event: ProgramEnded, words: str) -> None:
    *lines, stop = begun().handle(event, 6.0)
    assert isinstance(stop, Stop)
    assert isinstance(stop.outcome, Invalid)
    assert (stop.outcome.cause, stop.outcome.retryable) == ("policy", True)
    assert words in stop.outcome.detail
    assert lines[1] == Keep(event.sampled)


@pytest.mark.parametrize(
    ("event", "budget"),
    [
        (ended(calls=(CALL,), spent="turns", last="answered"), "turns"),
        (ended(LATE, calls=(CALL,), spent="tokens", last="answered"), "tokens"),
        (ended(spent="context", last="context"), "tokens"),
        (ended(LATE, calls=(CALL,), last="answered"), "seconds"),
        (ended(calls=(CALL,), spent="context", last="answered"), None),
    ],
)
def test_a_budget_that_ran_out_is_named_and_the_work_graded(event: ProgramEnded, budget: Literal["turns"] | None) -> None:
    m = begun()
    assert m.handle(event, 6.0)[-1] == Grade()
    (stop,) = m.handle(Graded(make_scored(0.0)), 7.0)
    assert isinstance(stop, Stop)
    assert stop.outcome == (make_scored(0.0) if budget is None else Censored(budget, make_scored(0.0)))


def test_an_outage_for_which_the_time_was_not_put_off_enough_is_the_policys_fault() -> None:
    for outage_s, invalid in ((49.0, False), (50.0, True)):
        last = begun().handle(ended(LATE, calls=(CALL,), last="answered", outage_s=outage_s), 100.0)[-1]
        assert isinstance(last, Stop if invalid else Grade)
        if isinstance(last, Stop):
            assert isinstance(last.outcome, Invalid)
            assert (last.outcome.cause, last.outcome.retryable) == ("policy", True)
    still_there = ended(calls=(CALL,), last="answered", outage_s=50.0)
    assert begun().handle(still_there, 100.0)[-1] == Grade()


def test_a_lost_box_is_invalid_and_a_broken_one_counts() -> None:
    (lost,) = begun().handle(Failed(BoxLost.policy, "gone"), 6.0)
    assert isinstance(lost, Stop)
    assert isinstance(lost.outcome, Invalid)
    assert lost.outcome.retryable
    m = begun()
    assert m.handle(Failed(BoxBroken.policy, "silent"), 6.0) == [Grade()]
    (broken,) = m.handle(Failed(BoxBroken.policy, "silent still"), 7.0)
    assert isinstance(broken, Stop)
    assert isinstance(broken.outcome, Scored)
    assert broken.outcome.reward == 0
