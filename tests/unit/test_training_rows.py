"""A trajectory as rows for a learner: every sampled token once, behind what it was sampled after, and nothing guessed."""

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.errors import PolicyError
from envfarm.core.ids import EpisodeId
from envfarm.core.model_call import Conversation, ModelCall
from envfarm.core.observation import Observation
from envfarm.core.sampled import Sampled, SampledCall
from envfarm.core.trajectory import Header, Step, Trajectory
from envfarm.testing.factories import make_spec

Ids = tuple[int, ...]
LOOK = Bash(command="ls")
HEADER = Header(episode=make_spec(), environment_digest="", instruction="", box="")
ids = st.lists(st.integers(0, 300), max_size=5).map(tuple)


def step(index: int, call: ModelCall | None, action: Action = LOOK) -> Step:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    seen = Observation(text="")
    return Step(index=index, action=action, observation=seen, started_at=now, duration_s=0.0, call=call, observation_digest="")


def played(calls: Iterable[ModelCall | None]) -> Trajectory:
    return Trajectory(header=HEADER, steps=tuple(step(n, call) for n, call in enumerate(calls)))


def call(prompt: Ids, completion: Ids, name: str = "", weights: str | None = None) -> ModelCall:
    logprobs = tuple(-float(i) for i in completion)
    return ModelCall(call_id=name, prompt_ids=prompt, completion_ids=completion, logprobs=logprobs, weight_version=weights)


@given(ids, st.lists(st.tuples(ids, ids, st.booleans()), max_size=6))
def test_every_sampled_token_is_there_once_behind_what_it_was_sampled_after(opening: Ids, turns: list[tuple[Ids, Ids, bool]]) -> None:
    before, calls, sampled = opening, list[ModelCall](), list[tuple[Ids, int]]()
    for completion, reply, drifts in turns:
        calls.append(call(before, completion))
        sampled += [(before + completion[:k], i) for k, i in enumerate(completion)]
        before = reply if drifts else before + completion + reply
    rows = played(calls).rows()
    assert all(len(row.ids) == len(row.logprobs) == len(row.mask) for row in rows)
    counted = [(row, n) for row in rows for n, counts in enumerate(row.mask) if counts]
    assert [(row.ids[:n], row.ids[n]) for row, n in counted] == sampled
    assert [row.logprobs[n] for row, n in counted] == [-float(i) for _, i in sampled]
    assert all(p == 0.0 for row in rows for p, counts in zip(row.logprobs, row.mask, strict=True) if not counts)
    assert sum(sum(row.mask) for row in rows) == sum(s.end - s.start for row in rows for s in row.segments)


@given(ids, st.lists(st.tuples(ids, ids, st.booleans()), max_size=6))
def test_what_is_kept_once_is_read_as_the_same(opening: Ids, turns: list[tuple[Ids, Ids, bool]]) -> None:
    before, calls = opening, list[ModelCall]()
    for completion, reply, drifts in turns:
        calls.append(call(before, completion))
        before = reply if drifts else before + completion + reply
    writing = Conversation()
    kept = [writing.shortened(one) for one in calls]
    assert list(played(kept).calls) == calls
    again = Conversation()
    assert [again.shortened(one) for one in kept] == kept
    assert played(kept).rows() == played(calls).rows()


def test_a_row_says_which_step_and_which_weights_sampled_what_whatever_the_steps_are_called() -> None:
    steps = (call((1,), (2, 3), "a", "7"), None, call((1, 2, 3, 4), (5,), "z", "8"), call((9,), (6,), "b"))
    first, second = played(steps).rows()
    assert (first.ids, first.mask, first.logprobs) == ((1, 2, 3, 4, 5), (0, 1, 1, 0, 1), (0.0, -2.0, -3.0, 0.0, -5.0))
    assert [(s.start, s.end, s.call, s.weight_version) for s in first.segments] == [(1, 3, 0, "7"), (4, 5, 2, "8")]
    assert (second.ids, second.segments[0].call, second.segments[0].weight_version) == ((9, 6), 3, None)


def test_an_episode_without_sampled_tokens_has_no_row() -> None:
    assert played([]).rows() == ()
    assert played([None, ModelCall(text="no ids"), call((1,), ())]).rows() == ()


def test_an_end_that_nobody_sampled_adds_nothing() -> None:
    steps = (step(0, call((1,), (2,))), step(1, ModelCall(call_id="grade"), Finish()))
    assert Trajectory(header=HEADER, steps=steps).rows() == played([call((1,), (2,))]).rows() != ()


def test_a_programs_rows_are_its_branches() -> None:
    calls = tuple(
        SampledCall(
            index=n,
            prompt_length=1,
            added_ids=(n,),
            completion_ids=completion,
            logprobs=(-0.5,) * len(completion),
            finish_reason="stop",
            engine="e",
        )
        for n, completion in enumerate([(7, 8), (), (9,)])
    )
    sampled = Sampled(episode=EpisodeId("e"), calls=calls)
    rows = Trajectory(header=HEADER, sampled=sampled).rows()
    assert rows == (sampled.branches[0], sampled.branches[2]), "what has no sampled token trains nothing"


@pytest.mark.parametrize(
    ("calls", "says"),
    [
        (
            [call((1,), (2,)), ModelCall(prompt_ids=(1, 2), completion_ids=(4, 5), logprobs=(0.0,))],
            "step 1 has 2 sampled tokens and 1 logprobs",
        ),
        ([ModelCall(prompt_ids=(1,), completion_ids=(4,))], "step 0 has 1 sampled tokens and 0 logprobs"),
        ([None, call((2,), (3,)).model_copy(update={"continues": True})], "step 1 goes on from tokens that the record does not have"),
    ],
)
def test_what_cannot_be_a_row_is_told(calls: list[ModelCall | None], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        played(calls).rows()
