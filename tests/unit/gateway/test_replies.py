import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.gateway import replies
from envfarm.gateway.conversation import Message, ToolCall, parsed
from envfarm.gateway.replies import Called, Part, Stops, TaggedReply, Words

CALL = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call>'
PIECES = st.sampled_from(
    [
        "I look.",
        " ",
        "\n\n",
        "<tool",
        "_call>",
        "</tool_call>",
        "<think>",
        "</think>",
        CALL,
        "<tool_call>{oops</tool_call>",
        "größe 😀",
        "<",
    ]
)


def read(*texts: str) -> list[Part]:
    reader = TaggedReply()
    parts = [p for text in texts for p in reader.feed(text)]
    return replies.blocks(parts + reader.end())


def test_words_then_a_call() -> None:
    assert read(f"I look.\n{CALL}\n") == [Words("I look."), Called("bash", '{"command": "ls"}')]


def test_calls_in_a_row_have_nothing_between_them() -> None:
    assert read(f"{CALL}\n{CALL}") == [Called("bash", '{"command": "ls"}')] * 2


def test_words_behind_a_call_are_said_too() -> None:
    assert read(f"{CALL}\n\nDone. ") == [Called("bash", '{"command": "ls"}'), Words("Done.")]


def test_thoughts_are_told_apart() -> None:
    assert read("<think>hm\n</think>\n\nYes. ") == [Words("hm\n", "reasoning"), Words("\n\nYes. ")]
    reader = TaggedReply(thinks_first=True)
    assert reader.feed("hm</think>Yes.") + reader.end() == [Words("hm", "reasoning"), Words("Yes.")]


def test_what_is_no_call_is_passed_on_as_text() -> None:
    for inside in ("{oops", '{"name": "bash"}', '{"name": 1, "arguments": {}}', '{"name": "", "arguments": {}}', "[]", "[" * 5000):
        assert read(f"a <tool_call>{inside}</tool_call> b") == [Words(f"a <tool_call>{inside}</tool_call> b")]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_cannot_hold_makes_no_call(number: str) -> None:
    said = f'<tool_call>{{"name": "f", "arguments": {{"n": [{number}]}}}}</tool_call>'
    assert read(said) == [Words(said)]
    assert parsed(f'{{"n": {number}}}') == f'{{"n": {number}}}'


def test_a_call_without_an_end_is_text() -> None:
    assert read('Then <tool_call>{"name": "bash", "argu') == [Words('Then <tool_call>{"name": "bash", "argu')]


def test_half_characters_in_arguments_stay_spelled_out() -> None:
    (part,) = read('<tool_call>{"name": "b", "arguments": {"a": "\\ud800"}}</tool_call>')
    assert isinstance(part, Called)
    assert part.arguments.encode()
    assert json.loads(part.arguments) == {"a": "\ud800"}


@given(st.lists(PIECES, max_size=12), st.data())
def test_how_a_text_is_cut_makes_no_difference(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert read(*parts) == read(text)


@given(st.text(st.sampled_from("<>tool_calhin/k {}\"' \nx"), max_size=60))
def test_a_text_without_calls_and_thoughts_is_said_as_it_is(text: str) -> None:
    parts = read(text)
    if not any(isinstance(p, Called) or p.kind == "reasoning" for p in parts):
        assert replies.answer(parts).text in (text, text.replace("<think>", "").replace("</think>", ""))


def test_an_answer_is_what_the_agent_is_to_send_back() -> None:
    parts: list[Part] = [Words("a"), Words("b", "reasoning"), Called("f", "{}", "id1"), Words("c")]
    assert replies.answer(parts) == Message("assistant", "ac", (ToolCall("id1", "f", "{}"),), reasoning="b")


@given(st.lists(st.sampled_from(["STOP", "ST", "OP", "x", "END", "E"]), max_size=10), st.integers(1, 4))
def test_a_stream_ends_before_the_first_stop(pieces: list[str], size: int) -> None:
    text = "".join(pieces)
    stops = Stops(("STOP", "END"))
    said = "".join(stops.feed(text[at : at + size]) for at in range(0, len(text), size)) + stops.end()
    ends = [(at, mark) for mark in ("STOP", "END") if (at := text.find(mark)) >= 0]
    assert (said, stops.found) == (text[: min(ends)[0]], min(ends)[1]) if ends else (text, "")


@pytest.mark.parametrize(("opening", "piece"), [("<tool_call>", "abcd"), ("", "\n\n  "), ("<think>", "abcd"), ("", "abcd")])
def test_what_was_read_of_a_long_answer_is_not_read_again(opening: str, piece: str) -> None:
    """Text that grows with each piece is copied and searched with each: a call of 40,000 tokens held up all episodes for seconds."""
    reader = TaggedReply()
    parts = reader.feed(opening)
    for _ in range(200):
        parts += reader.feed(piece)
        assert max(len(held) for held in vars(reader).values() if isinstance(held, str)) < len("</tool_call>")
    said = (opening if opening == "<tool_call>" else "") + piece * 200
    assert "".join(p.text for p in parts + reader.end() if isinstance(p, Words)) == said
