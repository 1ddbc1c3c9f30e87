from dataclasses import replace

import pytest

from envfarm.core.action import Action, Bash, Finish, Malformed, ReadFile
from envfarm.core.episode import Budgets
from envfarm.core.errors import BoxBroken, BoxLost, GraderError, PolicyError
from envfarm.core.model_call import ModelCall
from envfarm.core.outcome import Censored, Invalid, Scored
from envfarm.core.trajectory import Step
from envfarm.episodes.events import (
    ActionTimedOut,
    Cancelled,
    Decided,
    Failed,
    Graded,
    Observed,
    OutOfContext,
    Resumed,
    Started,
    ThinkingTimedOut,
)
from envfarm.episodes.instructions import Append, AskPolicy, Grade, Instruction, RunTool, Stop
from envfarm.episodes.machine import Machine, OutOfOrderError, observation_digest, reached_the_box
from envfarm.testing.factories import LONG_AGO, make_scored, make_spec, make_step

LS = Bash(command="ls")


def machine(**budgets: float | None) -> Machine:
    return Machine(make_spec(budgets=Budgets.model_validate(budgets)))


def decided(action: Action = LS, *, tokens: int | None = None) -> Decided:
    return Decided(action, ModelCall(completion_tokens=tokens) if tokens is not None else None, LONG_AGO)


def step_of(instructions: list[Instruction]) -> Step:
    (first, *_) = instructions
    assert isinstance(first, Append)
    return first.step


def test_an_action_is_run_recorded_and_followed_by_the_next_question() -> None:
    m = machine(seconds=100.0)
    assert m.handle(Started(), 10.0) == [AskPolicy(100.0, 100.0)]
    assert m.handle(decided(), 13.0) == [RunTool(LS, 0, 97.0)]
    done = m.handle(Observed("a\nb", 2.0, exit_code=0), 15.0)
    step = step_of(done)
    assert (step.index, step.think_s, step.duration_s, step.observation.text, step.observation.exit_code) == (0, 3.0, 2.0, "a\nb", 0)
    assert done[1:] == [AskPolicy(95.0, 100.0)]


def test_finish_is_recorded_and_graded() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    instructions = m.handle(decided(Finish(message="done")), 1.0)
    assert step_of(instructions).action == Finish(message="done")
    assert instructions[1:] == [Grade()]
    score = make_scored(1.0)
    assert m.handle(Graded(score), 2.0) == [Stop("finished", score)]
    assert m.ended


def test_a_malformed_call_costs_a_turn_and_is_told_back() -> None:
    m = machine(turns=2)
    m.handle(Started(), 0.0)
    done = m.handle(decided(Malformed(raw="{", problem="not JSON")), 1.0)
    assert step_of(done).observation.is_error
    assert "not JSON" in step_of(done).observation.text
    assert isinstance(done[1], AskPolicy)
    assert m.turns == 1


def test_after_the_last_turn_the_work_is_graded_and_censored() -> None:
    m = machine(turns=1)
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    assert m.handle(Observed("", 0.0), 0.0)[1:] == [Grade()]
    score = make_scored(0.0)
    assert m.handle(Graded(score), 0.0) == [Stop("truncated", Censored("turns", score))]


def test_finishing_in_the_last_turn_is_finishing() -> None:
    m = machine(turns=1)
    m.handle(Started(), 0.0)
    m.handle(decided(Finish()), 0.0)
    assert m.handle(Graded(make_scored()), 0.0) == [Stop("finished", make_scored())]


def test_an_action_whose_completion_went_over_the_tokens_is_not_run() -> None:
    m = machine(tokens=10)
    m.handle(Started(), 0.0)
    done = m.handle(decided(tokens=11), 0.0)
    assert step_of(done).observation.is_error
    assert not reached_the_box(step_of(done))
    assert done[1:] == [Grade()]
    assert m.handle(Graded(make_scored()), 0.0) == [Stop("truncated", Censored("tokens", make_scored()))]


def test_an_action_that_uses_the_tokens_up_exactly_is_run_and_the_last() -> None:
    m = machine(tokens=10)
    m.handle(Started(), 0.0)
    assert isinstance(m.handle(decided(tokens=10), 0.0)[0], RunTool)
    assert m.handle(Observed("", 0.0), 0.0)[1:] == [Grade()]


def test_time_that_runs_out_while_thinking_censors() -> None:
    m = machine(seconds=5.0)
    m.handle(Started(), 0.0)
    assert m.handle(ThinkingTimedOut(), 5.0) == [Grade()]
    assert m.handle(Graded(make_scored()), 6.0) == [Stop("truncated", Censored("seconds", make_scored()))]


def test_time_that_runs_out_while_the_endpoint_fails_is_no_budget_of_the_agents() -> None:
    m = machine(seconds=5.0)
    m.handle(Started(), 0.0)
    (stop,) = m.handle(ThinkingTimedOut(outage_s=40.0), 45.0)
    assert isinstance(stop, Stop)
    assert isinstance(stop.outcome, Invalid)
    assert (stop.outcome.cause, stop.outcome.retryable) == ("policy", True)


def test_an_outage_of_the_endpoint_counts_neither_as_thinking_nor_against_the_budget() -> None:
    m = machine(seconds=100.0)
    m.handle(Started(), 10.0)
    assert m.handle(replace(decided(), outage_s=60.0), 73.0) == [RunTool(LS, 0, 97.0)]
    done = m.handle(Observed("", 2.0), 75.0)
    assert step_of(done).think_s == 3.0
    assert done[1:] == [AskPolicy(95.0, 40.0)]


def test_outages_that_take_longer_than_the_episode_may_are_the_policys_fault() -> None:
    m = machine(seconds=100.0)
    m.handle(Started(), 0.0)
    m.handle(replace(decided(), outage_s=90.0), 95.0)
    m.handle(Observed("", 2.0), 97.0)
    appended, stop = m.handle(replace(decided(), outage_s=200.0), 297.0)
    assert isinstance(appended, Append)
    assert isinstance(stop, Stop)
    assert isinstance(stop.outcome, Invalid)
    assert (stop.outcome.cause, stop.outcome.retryable) == ("policy", True)


def test_a_conversation_that_no_longer_fits_censors_by_tokens() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    assert m.handle(OutOfContext(), 5.0) == [Grade()]
    assert m.handle(Graded(make_scored()), 6.0) == [Stop("truncated", Censored("tokens", make_scored()))]


@pytest.mark.parametrize(
    ("action", "now", "expected"),
    [
        (Bash(command="x", timeout_s=3.0), 0.0, 3.0),
        (Bash(command="x", timeout_s=300.0), 0.0, 20.0),
        (Bash(command="x", timeout_s=-1.0), 0.0, 20.0),
        (ReadFile(path="x"), 95.0, 5.0),
    ],
)
def test_an_action_gets_the_least_of_what_it_asks_its_own_limit_and_what_is_left(action: Action, now: float, expected: float) -> None:
    m = machine(seconds=100.0, action_s=20.0)
    m.handle(Started(), 0.0)
    (run,) = m.handle(decided(action), now)
    assert isinstance(run, RunTool)
    assert run.timeout_s == expected


def test_a_timed_out_action_is_told_and_the_episode_goes_on() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    done = m.handle(ActionTimedOut("half", 600.0), 600.0)
    assert step_of(done).observation.timed_out
    assert isinstance(done[1], AskPolicy)


def test_long_observations_are_cut_but_the_digest_is_of_the_whole() -> None:
    m = machine(observation_chars=200)
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    whole = Observed("x" * 5000, 0.0, exit_code=0)
    step = step_of(m.handle(whole, 0.0))
    assert len(step.observation.text) <= 200
    assert step.observation.truncated
    assert step.observation_digest == observation_digest(whole)


def test_digests_tell_text_status_and_errors_apart_but_not_durations() -> None:
    one = Observed("a", 1.0, exit_code=0)
    assert observation_digest(one) == observation_digest(replace(one, duration_s=9.0))
    others: list[Observed | ActionTimedOut] = [
        replace(one, text="b"),
        replace(one, exit_code=1),
        replace(one, is_error=True),
        ActionTimedOut("a", 1.0),
    ]
    assert len({observation_digest(o) for o in (one, *others)}) == 5


def test_a_lost_box_is_invalid_and_retryable() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    assert m.handle(Failed(BoxLost.policy, "node gone"), 0.0) == [
        Stop("failed", Invalid("sandbox", retryable=True, detail="node gone"), unanswered=LS)
    ]


def test_a_broken_box_is_graded_if_that_can_still_be_done() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    assert m.handle(Failed(BoxBroken.policy, "silent"), 0.0) == [Grade()]
    assert m.handle(Graded(make_scored(1.0)), 0.0) == [Stop("failed", make_scored(1.0), unanswered=LS)]


def test_a_box_that_is_too_broken_to_grade_is_the_agents_zero() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    m.handle(Failed(BoxBroken.policy, "silent"), 0.0)
    (stop,) = m.handle(Failed(BoxBroken.policy, "no diff"), 0.0)
    assert isinstance(stop, Stop)
    assert isinstance(stop.outcome, Scored)
    assert stop.outcome.reward == 0.0
    assert not stop.outcome.integrity.ok
    assert "no diff" in stop.outcome.why


def test_a_box_that_is_broken_before_the_agent_acted_is_its_makers_fault() -> None:
    (stop,) = machine().handle(Failed(BoxBroken.policy, "silent"), 0.0)
    assert isinstance(stop, Stop)
    assert stop.outcome == Invalid("sandbox", retryable=True, detail="silent")


def test_a_failing_policy_is_no_zero() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    (stop,) = m.handle(Failed(PolicyError.policy, "down"), 0.0)
    assert isinstance(stop, Stop)
    assert stop.outcome == Invalid("policy", retryable=True, detail="down")


def test_a_grading_spoilt_after_a_budget_ran_out_is_invalid_and_not_censored() -> None:
    m = machine(turns=1)
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    m.handle(Observed("", 0.0), 0.0)
    (stop,) = m.handle(Failed(GraderError.policy, "no box"), 0.0)
    assert isinstance(stop, Stop)
    assert stop.outcome == Invalid("grader", retryable=True, detail="no box")
    assert stop.ended == "failed"


def test_a_box_broken_after_a_budget_ran_out_stays_censored() -> None:
    m = machine(turns=1)
    m.handle(Started(), 0.0)
    m.handle(decided(), 0.0)
    m.handle(Observed("", 0.0), 0.0)
    (stop,) = m.handle(Failed(BoxBroken.policy, "silent"), 0.0)
    assert isinstance(stop, Stop)
    assert isinstance(stop.outcome, Censored)
    assert stop.outcome.partial is not None
    assert stop.outcome.partial.reward == 0.0


def test_cancelling_ends_at_once_and_is_not_retried() -> None:
    m = machine()
    m.handle(Started(), 0.0)
    (stop,) = m.handle(Cancelled("enough"), 0.0)
    assert stop == Stop("cancelled", Invalid("cancelled", retryable=False, detail="enough"))
    assert m.handle(Graded(make_scored()), 0.0) == []


def test_resuming_counts_what_was_spent() -> None:
    m = machine(turns=3, seconds=100.0, tokens=30)
    call = ModelCall(completion_tokens=12)
    steps = [make_step(i, action=LS, think_s=4.0, duration_s=6.0, call=call) for i in range(2)]
    assert m.handle(Resumed(steps), 1000.0) == [AskPolicy(80.0, 100.0)]
    (run,) = m.handle(decided(tokens=6), 1000.0)
    assert isinstance(run, RunTool)
    assert run.index == 2
    assert m.handle(Observed("", 0.0), 1000.0)[1:] == [Grade()]


def test_resuming_behind_a_finish_goes_straight_to_grading() -> None:
    m = machine()
    assert m.handle(Resumed([make_step(0, action=LS), make_step(1, action=Finish())]), 0.0) == [Grade()]
    assert m.handle(Graded(make_scored()), 0.0) == [Stop("finished", make_scored())]


def test_events_out_of_order_are_a_callers_mistake() -> None:
    m = machine()
    with pytest.raises(OutOfOrderError, match="Observed while new"):
        m.handle(Observed("", 0.0), 0.0)
    m.handle(Started(), 0.0)
    with pytest.raises(OutOfOrderError):
        m.handle(Started(), 0.0)
    with pytest.raises(OutOfOrderError):
        m.handle(Graded(make_scored()), 0.0)
