import json
from array import array
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.ids import EpisodeId
from envfarm.core.sampled import DriftSpan, Sampled, SampledCall, TrainingRow, WeightChange
from envfarm.gateway.conversation import Asked, Message, Tool, ToolCall, identity
from envfarm.gateway.forest import Completion, Forest, Known, Prompt

BASH = Tool("bash")


def user(text: str) -> Message:
    return Message("user", text)


def said(text: str) -> Message:
    return Message("assistant", text)


def add(forest: Forest, asked: Asked, answer: Message, *, token: int = 7) -> int:
    known = forest.known(asked)
    added = [100 + token] * (len(asked.messages) - known.consumed)
    prompt = Prompt(known.call, array("i", added), forest.length(known.call) + len(added))
    return forest.add(asked, prompt, Completion([token, token], [-0.5, -0.25], "stop", "e", "3"), answer, dialect="d")


def branches(forest: Forest) -> tuple[TrainingRow, ...]:
    return Sampled(episode=EpisodeId("e"), calls=forest.calls()).branches


def test_a_new_call_goes_on_from_the_longest_known_prefix() -> None:
    forest = Forest()
    first = add(forest, Asked((user("a"),)), said("b"))
    second = add(forest, Asked((user("a"), said("b"), user("c"))), said("d"))
    assert forest.known(Asked((user("a"), said("b"), user("c"), said("d"), user("e")))) == Known(second, 4)
    assert forest.known(Asked((user("a"), said("b"), user("other")))) == Known(first, 2)
    assert forest.known(Asked((user("a"), said("changed"), user("c")))) == Known(None, 0)
    assert forest.known(Asked((user("a"),))) == Known(None, 0, first)
    assert forest.known(Asked((user("a"), said("b"), user("c")), (BASH,))) == Known(None, 0)


def test_what_templates_render_alike_is_one_message() -> None:
    loose = Message("assistant", "a", (ToolCall("1", "f", '{"b":1, "a":2}'),), reasoning="hm")
    tight = Message("assistant", "a", (ToolCall("1", "f", '{"a": 2, "b": 1}'),))
    assert identity(loose) == identity(tight)
    assert identity(Message("assistant", "a", (ToolCall("1", "f", "{oops"),))) != identity(tight)
    assert identity(Message("tool", "a", answers="1")) != identity(Message("tool", "a", answers="2"))


def called(arguments: str) -> bytes:
    return identity(Message("assistant", calls=(ToolCall("1", "f", arguments),)))


@pytest.mark.parametrize(
    ("written", "in_javascript"),
    [("1.0", "1"), ("-0.0", "0"), ("1e3", "1000"), ("0.1", "0.1"), ("1E21", "1e+21"), ("9007199254740993", "9007199254740992"),
     ("1152921504606846976", "1152921504606847000"), ('{"b": [2.50], "a": "1.0"}', '{"b":[2.5],"a":"1.0"}')],
)  # fmt: skip
def test_how_javascript_spells_a_number_makes_no_other_call(written: str, in_javascript: str) -> None:
    assert called(f'{{"n": {written}}}') == called(f'{{"n":{in_javascript}}}')


def test_other_numbers_and_what_only_looks_like_one_make_another_call() -> None:
    every = (
        "1",
        "1.5",
        '"1"',
        '"1.0"',
        "true",
        "null",
        "[1]",
        "9007199254740992",
        "9007199254740994",
        "NaN",
        "1e999",
        "9" * 400,
        "9" * 5000,
    )
    assert len({called(f'{{"n": {one}}}') for one in every}) == len(every)


def test_branches_are_laid_out_for_a_learner() -> None:
    forest = Forest()
    add(forest, Asked((user("a"),)), said("b"), token=1)
    add(forest, Asked((user("a"), said("b"), user("c"))), said("d"), token=2)
    add(forest, Asked((user("a"), said("b"), user("other"))), said("e"), token=3)
    add(forest, Asked((user("summary"),)), said("f"), token=4)
    one, two, three = branches(forest)
    assert one.ids == (101, 1, 1, 102, 2, 2)
    assert one.mask == (0, 1, 1, 0, 1, 1)
    assert one.logprobs == (0.0, -0.5, -0.25, 0.0, -0.5, -0.25)
    assert [(s.start, s.end, s.call, s.weight_version) for s in one.segments] == [(1, 3, 0, "3"), (4, 6, 1, "3")]
    assert (two.ids, two.shared) == ((101, 1, 1, 103, 3, 3), 3)
    assert (three.ids, three.shared) == ((104, 4, 4), 0)


def test_a_segment_ends_where_the_weights_change() -> None:
    forest = Forest()
    prompt = Prompt(None, array("i", [5]), 1)
    changes = tuple(WeightChange(at=at, weight_version=version) for at, version in ((2, "8"), (3, None)))
    made = Completion([1, 2, 3, 4], [-0.5] * 4, "stop", "e", "7", changes)
    forest.add(Asked((user("a"),)), prompt, made, said("b"), dialect="d")
    (branch,) = branches(forest)
    assert [(s.start, s.end, s.call, s.weight_version) for s in branch.segments] == [(1, 3, 0, "7"), (3, 4, 0, "8"), (4, 5, 0, None)]
    assert branch.mask == (0, 1, 1, 1, 1)
    sampled = Sampled(episode=EpisodeId("e"), calls=forest.calls())
    assert Sampled.model_validate_json(sampled.model_dump_json()) == sampled
    assert sampled.model_call(0).weight_version == "7"


def test_a_call_is_delivered_once_it_was_sent_and_an_older_record_was() -> None:
    forest = Forest()
    add(forest, Asked((user("a"),)), said("b"))
    add(forest, Asked((user("c"),)), said("d"))
    forest.deliver(1)
    assert [c.delivered for c in forest.calls()] == [False, True]
    older = forest.calls()[0].model_dump(mode="json", exclude={"delivered", "weight_changes"})
    read = SampledCall.model_validate(older)
    assert (read.delivered, read.weight_changes) == (True, ())


def test_white_space_around_an_answer_is_no_other_answer() -> None:
    forest = Forest()
    first = add(forest, Asked((user("a"),)), said("\n\nAn answer.\n"))
    assert forest.known(Asked((user("a"), said("An answer."), user("c")))) == Known(first, 2)
    for other in ("An  answer.", "Ananswer.", "An answer", "an answer.", ""):
        assert forest.known(Asked((user("a"), said(other), user("c")))) == Known(None, 0)
    for role in ("user", "system", "tool"):
        assert identity(Message(role, "a\n")) != identity(Message(role, "a"))
    call = (ToolCall("1", "f", '{"a": " b "}'),)
    assert identity(Message("assistant", " a ", call)) == identity(Message("assistant", "a", call))
    assert identity(Message("assistant", "a", call)) != called('{"a": "b"}')


def test_what_is_kept_and_sent_holds_each_token_once() -> None:
    forest = Forest()
    add(forest, Asked((user("a"),)), said("b"), token=1)
    for n in range(50):
        add(forest, Asked((user("a"), said("b"), user(str(n)))), said("c"), token=2)
    sampled = Sampled(episode=EpisodeId("e"), calls=forest.calls())
    told = sampled.model_dump()
    assert sum(len(c["added_ids"]) + len(c["completion_ids"]) for c in told["calls"]) == 51 * 3
    assert "branches" not in told
    received = Sampled.model_validate_json(sampled.model_dump_json())
    assert len(received.branches) == 50
    assert received.branches == sampled.branches


def test_an_older_record_with_its_branches_laid_out_is_read() -> None:
    forest = Forest()
    add(forest, Asked((user("a"),)), said("b"))
    sampled = Sampled(episode=EpisodeId("e"), calls=forest.calls())
    older = sampled.model_dump(mode="json") | {"branches": [b.model_dump(mode="json") for b in sampled.branches]}
    assert Sampled.model_validate_json(json.dumps(older)) == sampled


def test_a_calls_prompt_is_put_together_again() -> None:
    forest = Forest()
    add(forest, Asked((user("a"),)), said("b"), token=1)
    add(forest, Asked((user("a"), said("b"), user("c"))), said("d"), token=2)
    sampled = Sampled(episode=EpisodeId("e"), calls=forest.calls())
    assert sampled.prompt_ids(1) == (101, 1, 1, 102)
    assert sampled.prompt_ids(0) == (101,)
    call = sampled.model_call(1)
    assert (call.prompt_ids, call.completion_ids, call.logprobs, call.engine) == ((101, 1, 1, 102), (2, 2), (-0.5, -0.25), "e")
    assert Sampled.model_validate_json(sampled.model_dump_json()) == sampled


def test_drift_is_told_in_the_branchs_places() -> None:
    forest = Forest()
    add(forest, Asked((user("a"),)), said("b"), token=1)
    asked = Asked((user("a"), said("b"), user("c")))
    span = DriftSpan(start=1, end=3, reason="changed", messages=1)
    prompt = Prompt(0, array("i", [5, 6, 7]), 6, span)
    forest.add(asked, prompt, Completion([2], [-0.5], "length", "e"), said("d"), dialect="d")
    (branch,) = branches(forest)
    assert [(s.start, s.end) for s in branch.drift] == [(4, 6)]
    assert branch.mask == (0, 1, 1, 0, 0, 0, 1)


@dataclass
class Plain:
    """The same forest as a list of whole conversations."""

    ends: list[tuple[Message, ...]]

    def known(self, asked: Asked) -> tuple[int | None, int]:
        fits = [(len(end), n) for n, end in enumerate(self.ends) if asked.messages[: len(end)] == end]
        consumed, call = max(fits, default=(0, None))
        return call, consumed


WORD = st.sampled_from("ab")
TURNS = st.lists(st.tuples(WORD, WORD), max_size=4)


@given(st.lists(st.tuples(TURNS, WORD, WORD), max_size=12))
def test_the_forest_finds_what_a_plain_search_finds(asks: list[tuple[list[tuple[str, str]], str, str]]) -> None:
    forest, plain = Forest(), Plain([])
    for turns, last, answer in asks:
        asked = Asked((*(m for u, a in turns for m in (user(u), said(a))), user(last)))
        known = forest.known(asked)
        assert (known.call, known.consumed) == plain.known(asked)
        add(forest, asked, said(answer))
        plain.ends.append((*asked.messages, said(answer)))
    owned = sum(sum(b.mask[b.shared :]) for b in branches(forest))
    assert owned == 2 * len(forest)
