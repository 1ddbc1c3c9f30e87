"""A trajectory's model calls as one row: every sampled token once, in its place, and nothing guessed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.errors import PolicyError
from envfarm.core.model_call import Conversation, ModelCall
from envfarm.core.observation import Observation
from envfarm.core.trajectory import Header, Step, Trajectory
from envfarm.integrations.token_row import TokenRow, token_row
from envfarm.testing.factories import make_spec

Ids = tuple[int, ...]
LOOK = Bash(command="ls")
ids = st.lists(st.integers(0, 300), max_size=5).map(tuple)


def step(index: int, call: ModelCall | None, action: Action = LOOK) -> Step:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    seen = Observation(text="")
    return Step(index=index, action=action, observation=seen, started_at=now, duration_s=0.0, call=call, observation_digest="")


def call(prompt: Ids, completion: Ids, n: int = 0) -> ModelCall:
    return ModelCall(call_id=str(n), prompt_ids=prompt, completion_ids=completion, logprobs=tuple(-float(i) for i in completion))


@given(ids, st.lists(st.tuples(ids, ids), max_size=6))
def test_every_sampled_token_is_there_once_behind_what_it_was_sampled_after(opening: Ids, turns: list[tuple[Ids, Ids]]) -> None:
    before, steps, sampled = opening, [], []
    for n, (completion, reply) in enumerate(turns):
        steps.append(step(n, call(before, completion, n)))
        sampled += [(before + completion[:k], i) for k, i in enumerate(completion)]
        before += completion + reply
    row = token_row(steps)
    assert len(row.completion_ids) == len(row.logprobs) == len(row.mask)
    places = [n for n, counts in enumerate(row.mask) if counts]
    assert [(row.prompt_ids + row.completion_ids[:n], row.completion_ids[n]) for n in places] == sampled
    assert [row.logprobs[n] for n in places] == [-float(i) for _, i in sampled]
    assert all(p == 0.0 for n, p in enumerate(row.logprobs) if n not in places)


@given(ids, st.lists(st.tuples(ids, ids, st.booleans()), max_size=6))
def test_what_is_kept_once_is_read_as_the_same(opening: Ids, turns: list[tuple[Ids, Ids, bool]]) -> None:
    before, calls = opening, []
    for n, (completion, reply, drifts) in enumerate(turns):
        calls.append(call(before, completion, n))
        before = reply if drifts else before + completion + reply
    writing = Conversation()
    kept = [writing.shortened(one) for one in calls]
    header = Header(episode=make_spec(), environment_digest="", instruction="", box="")
    assert list(Trajectory(header=header, steps=tuple(step(n, one) for n, one in enumerate(kept))).calls) == calls
    again = Conversation()
    assert [again.shortened(one) for one in kept] == kept
    if not any(drifts for *_, drifts in turns):
        row = token_row([step(n, one) for n, one in enumerate(calls)])
        assert token_row([step(n, one) for n, one in enumerate(kept)]) == row
        assert sum(len(one.prompt_ids or ()) for one in kept) == len(row.prompt_ids) + row.mask.count(0)


def test_no_steps_are_an_empty_row() -> None:
    assert token_row([]) == TokenRow()


def test_an_end_that_nobody_sampled_adds_nothing() -> None:
    played = [step(0, call((1,), (2,)))]
    assert token_row([*played, step(1, ModelCall(call_id="grade"), Finish())]) == token_row(played) != TokenRow()


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (None, "has no token ids"),
        (ModelCall(prompt_ids=(1, 2, 3)), "has no token ids"),
        (ModelCall(call_id="1", prompt_ids=(1, 2, 3), completion_ids=(4, 5), logprobs=(0.0,)), "2 tokens and 1 logprobs"),
        (call((1, 9, 3), (4,), 1), "does not begin with"),
        (call((1,), (4,), 1), "does not begin with"),
        (call((1, 2), (4,), 3), "is the trainer's step '3'"),
    ],
)
def test_what_does_not_fit_together_is_told(second: ModelCall | None, says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        token_row([step(0, call((1,), (2,))), step(1, second)])


def test_a_record_that_begins_behind_the_trainers_first_step_is_no_row() -> None:
    with pytest.raises(PolicyError, match="step 0 is the trainer's step '2'"):
        token_row([step(0, call((1, 2), (3,), 2))])
    with pytest.raises(PolicyError, match="does not begin with"):
        token_row([step(0, call((1, 2), (3,)).model_copy(update={"continues": True}))])
