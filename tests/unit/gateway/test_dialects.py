"""Each dialect's answer, sent back as its clients send it, is the message that was given: else every second turn would drift."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.gateway import replies
from envfarm.gateway.conversation import Asked, Message, Tool, ToolCall, identity
from envfarm.gateway.dialects.anthropic_messages import AnthropicMessages
from envfarm.gateway.dialects.dialect import Answered, Dialect, Head, Json
from envfarm.gateway.dialects.openai_chat import OpenAIChat
from envfarm.gateway.dialects.openai_responses import OpenAIResponses
from envfarm.gateway.problems import STATUS, Problem, Refused
from envfarm.gateway.replies import Called, Part, Words

DIALECTS: list[Dialect] = [OpenAIChat(), OpenAIResponses(), AnthropicMessages()]
HEAD = Head("a1", "m", 1_700_000_000, 11)
ASKED = Asked((Message("user", "hi"),), stream_usage=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
PARTS = st.lists(
    st.one_of(
        st.builds(Words, TEXT, st.sampled_from(["text", "reasoning"])),
        st.builds(Called, TEXT, st.dictionaries(TEXT, st.integers() | TEXT, max_size=2).map(json.dumps), st.uuids().map(str)),
    ),
    max_size=6,
)


def answered(*parts: Part, finish: Any = "stop") -> Answered:
    return Answered(HEAD, parts, finish, 5)


def events(sent: bytes) -> list[Json]:
    rows = [line.removeprefix(b"data: ") for line in sent.splitlines() if line.startswith(b"data: ")]
    return [json.loads(row) for row in rows if row != b"[DONE]"]


def body(dialect: Dialect, said: Any) -> Json:
    """A request with an answer sent back, and a word after it."""
    user = {"role": "user", "content": "hi"}
    if dialect.name == "openai_responses":
        return {"model": "m", "input": [user, *said["output"], user]}
    message = said["choices"][0]["message"] if dialect.name == "openai_chat" else {"role": "assistant", "content": said["content"]}
    return {"model": "m", "max_tokens": 9, "messages": [user, message, user]}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
@given(parts=PARTS)
def test_an_answer_sent_back_is_the_answer_that_was_given(dialect: Dialect, parts: list[Part]) -> None:
    given_answer = replies.answer(parts)
    asked = dialect.read(body(dialect, dialect.whole(answered(*parts))))
    assert [m.role for m in asked.messages] == ["user", "assistant", "user"]
    assert identity(asked.messages[1]) == identity(given_answer)


@given(parts=PARTS)
def test_streamed_messages_put_together_are_the_whole_answer(parts: list[Part]) -> None:
    dialect = AnthropicMessages()
    stream = dialect.stream(HEAD, ASKED)
    sent = events(stream.begin() + b"".join(map(stream.part, parts)) + stream.end(answered(*parts)))
    assert [e["type"] for e in sent][:1] + [e["type"] for e in sent][-2:] == ["message_start", "message_delta", "message_stop"]
    content: list[Json] = []
    pieces = ""
    for e in sent:
        if e["type"] == "content_block_start":
            content.append(dict(e["content_block"]))
            pieces = ""
        elif e["type"] == "content_block_delta":
            key = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}[e["delta"]["type"]]
            pieces += e["delta"][key]
            content[-1]["input" if key == "partial_json" else key] = json.loads(pieces) if key == "partial_json" else pieces
        assert e.get("index", len(content) - 1) == len(content) - 1
    assert content == dialect.whole(answered(*parts))["content"]


@given(parts=PARTS)
def test_streamed_responses_end_with_the_whole_answer(parts: list[Part]) -> None:
    dialect = OpenAIResponses()
    stream = dialect.stream(HEAD, ASKED)
    sent = events(stream.begin() + b"".join(map(stream.part, parts)) + stream.end(answered(*parts)))
    assert [e["sequence_number"] for e in sent] == list(range(len(sent)))
    whole = dialect.whole(answered(*parts))
    assert sent[-1]["response"] == whole
    assert [e["item"] for e in sent if e["type"] == "response.output_item.done"] == whole["output"]
    said = "".join(e["delta"] for e in sent if e["type"] == "response.output_text.delta")
    assert said == replies.answer(parts).text


@given(parts=PARTS)
def test_streamed_chunks_add_up_to_the_whole_answer(parts: list[Part]) -> None:
    dialect = OpenAIChat()
    stream = dialect.stream(HEAD, ASKED)
    raw = stream.begin() + b"".join(map(stream.part, parts)) + stream.end(answered(*parts))
    assert raw.endswith(b"data: [DONE]\n\n")
    *chunks, usage = events(raw)
    assert usage["usage"] == {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    deltas = [c["choices"][0]["delta"] for c in chunks]
    whole = dialect.whole(answered(*parts))["choices"][0]
    assert "".join(d.get("content") or "" for d in deltas) == (whole["message"]["content"] or "")
    calls = [call for d in deltas for call in d.get("tool_calls", [])]
    assert [{k: v for k, v in c.items() if k != "index"} for c in calls] == whole["message"].get("tool_calls", [])
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]


@pytest.mark.parametrize(
    ("dialect", "key", "words"),
    [
        (DIALECTS[0], "choices", ["stop", "tool_calls", "length"]),
        (DIALECTS[1], "status", ["completed", "completed", "incomplete"]),
        (DIALECTS[2], "stop_reason", ["end_turn", "tool_use", "max_tokens"]),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_the_end_is_told_in_the_dialects_words(dialect: Dialect, key: str, words: list[str]) -> None:
    ends = [answered(Words("a")), answered(Called("f", "{}", "c")), answered(Words("a"), finish="length")]
    told = [dialect.whole(a)[key] for a in ends]
    assert [t[0]["finish_reason"] if isinstance(t, list) else t for t in told] == words


def test_an_answer_that_a_string_of_the_agents_ended_says_which() -> None:
    dialect = AnthropicMessages()
    for finish in ("stop", "length"):
        made = Answered(HEAD, (Words("a"), Called("f", "{}", "c")), finish, 5, stop="</done>")
        whole, streamed = dialect.whole(made), events(dialect.stream(HEAD, ASKED).end(made))
        (delta,) = (e["delta"] for e in streamed if e["type"] == "message_delta")
        assert (whole["stop_reason"], whole["stop_sequence"]) == ("stop_sequence", "</done>")
        assert delta == {"stop_reason": "stop_sequence", "stop_sequence": "</done>"}
    assert dialect.whole(answered(Words("a")))["stop_sequence"] is None


@pytest.mark.parametrize("content", ["no such file", [{"type": "text", "text": "no such file"}]])
def test_the_model_is_told_that_a_tool_failed(content: Any) -> None:
    def read(**more: Any) -> Message:
        result = {"type": "tool_result", "tool_use_id": "t", "content": content, **more}
        return AnthropicMessages().read({"messages": [{"role": "user", "content": [result]}]}).messages[0]

    assert read(is_error=True) == Message("tool", "<error>\nno such file\n</error>", answers="t")
    assert read() == read(is_error=False) == read(is_error=None) == Message("tool", "no such file", answers="t")
    with pytest.raises(Refused, match=r"messages\[0\].content\[0\].is_error: true or false"):
        read(is_error="yes")


def test_an_error_in_a_stream_of_responses_goes_on_with_its_numbers() -> None:
    stream = OpenAIResponses().stream(HEAD, ASKED)
    sent = events(stream.begin() + stream.part(Words("a")) + stream.error(Problem("unavailable", "why")))
    assert [e["sequence_number"] for e in sent] == list(range(len(sent)))
    failed, error = sent[-2:]
    assert (error["type"], error["message"], error["error"]["message"]) == ("error", "why", "why")
    assert (failed["type"], failed["response"]["id"], failed["response"]["status"]) == ("response.failed", "resp_a1", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "why", "retryable": True}


def test_what_tools_say_between_the_calls_of_one_answer_stands_behind_it() -> None:
    dialect = OpenAIResponses()

    def items(answer_id: str, *parts: Part) -> list[Json]:
        head = Head(answer_id * 24, "m", 1_700_000_000, 11)
        output: list[Json] = dialect.whole(Answered(head, parts, "stop", 5))["output"]
        return output

    def out(call: str) -> Json:
        return {"type": "function_call_output", "call_id": call, "output": f"of {call}"}

    def read(*rows: Json) -> list[Any]:
        return [
            [c.call_id for c in m.calls] if m.role == "assistant" else m.answers or m.text
            for m in dialect.read({"input": list(rows)}).messages
        ]

    user = {"role": "user", "content": "hi"}
    said, one, two, last = items("a", Words("I run two."), Called("f", "{}", "1"), Called("f", "{}", "2"), Words("Done."))
    other, third = items("b", Called("f", "{}", "3"), Called("f", "{}", "4"))
    assert read(user, said, one, out("1"), two, out("2"), last) == ["hi", ["1", "2"], "1", "2"]
    assert read(user, one, out("1"), two, out("2"), other, out("3"), third, out("4")) == ["hi", ["1", "2"], "1", "2", ["3", "4"], "3", "4"]
    # Other answers, those of which it is not known, and what stands behind a user's word are turns of their own.
    assert read(user, one, out("1"), other, out("3")) == ["hi", ["1"], "1", ["3"], "3"]
    assert read(user, one, out("1"), user, two, out("2")) == ["hi", ["1"], "1", "hi", ["2"], "2"]
    bare = [{k: v for k, v in row.items() if k != "id"} for row in (one, two)]
    assert read(user, bare[0], out("1"), bare[1], out("2")) == ["hi", ["1"], "1", ["2"], "2"]
    assert read(user, *bare, out("1"), out("2")) == ["hi", ["1", "2"], "1", "2"]


def test_tools_and_their_answers_are_read_in_each_dialect() -> None:
    schema = {"type": "object"}
    tool, call = Tool("bash", "runs", schema), ToolCall("c1", "bash", '{"a": 1}')
    chat = {
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "good"}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": {"name": "bash", "arguments": '{"a": 1}'}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "seen"},
        ],
        "tools": [{"type": "function", "function": {"name": "bash", "description": "runs", "parameters": schema}}],
    }
    responses = {
        "instructions": "be good",
        "input": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c1", "name": "bash", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "seen"},
        ],
        "tools": [{"type": "function", "name": "bash", "description": "runs", "parameters": schema}, {"type": "web_search"}],
    }
    messages = {
        "system": [{"type": "text", "text": "x-anthropic-billing-header: v=1"}, {"type": "text", "text": "be good", "cache_control": {}}],
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "bash", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "seen"}]}]},
        ],
        "tools": [{"name": "bash", "description": "runs", "input_schema": schema}, {"type": "web_search_20250305", "name": "web_search"}],
    }
    for dialect, request in zip(DIALECTS, [chat, responses, messages], strict=True):
        given_body: Any = request
        asked = dialect.read({"model": "m", "max_tokens": 5, **given_body})
        expected = [Message("system", "be good"), Message("assistant", calls=(call,)), Message("tool", "seen", answers="c1")]
        assert list(map(identity, asked.messages)) == list(map(identity, expected))
        assert asked.tools == (tool,)


@pytest.mark.parametrize(
    ("dialect", "request_body", "place"),
    [
        (0, {"messages": []}, "no message"),
        (0, {"messages": "hi"}, "messages: a list of objects"),
        (0, {"messages": [{"role": "wizard", "content": "a"}]}, r"messages\[0\].role"),
        (0, {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, r"messages\[0\].content\[0\]: parts of type 'image_url'"),
        (0, {"messages": [{"role": "user", "content": 5}]}, r"messages\[0\].content"),
        (0, {"messages": [{"role": "user", "content": "a"}], "n": 2}, "n: one answer"),
        (0, {"messages": [{"role": "user", "content": "a"}], "max_tokens": 0}, "max_tokens"),
        (0, {"messages": [{"role": "user", "content": "a"}], "temperature": float("nan")}, "temperature"),
        (0, {"messages": [{"role": "user", "content": "a"}], "seed": "x"}, "seed: a whole number"),
        (0, {"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}}, "response_format"),
        (0, {"messages": [{"role": "user", "content": "a"}], "stop": ["x"] * 17}, "stop"),
        (0, {"messages": [{"role": "user", "content": "a"}], "stop": "x" * 1001}, "stop: a string of more than 1000"),
        (0, {"messages": [{"role": "user", "content": "a"}], "logprobs": True}, "logprobs: logprobs are the trainer's"),
        (0, {"messages": [{"role": "user", "content": "a"}], "top_logprobs": 3}, "top_logprobs"),
        (0, {"messages": [{"role": "user", "content": "a"}], "functions": [{"name": "f"}]}, "functions: offer them as `tools`"),
        (0, {"messages": [{"role": "user", "content": "a"}], "audio": {"voice": "x"}}, "audio: the model has words only"),
        (0, {"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, r"messages\[0\].tool_calls\[0\]"),
        (0, {"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "custom"}]}, r"tools\[0\]"),
        (1, {"input": "a", "previous_response_id": "r"}, "previous_response_id: nothing is remembered"),
        (1, {"input": [{"type": "item_reference", "id": "x"}]}, r"input\[0\].type"),
        (1, {"input": "a", "background": True}, "background: an answer is given to the request"),
        (1, {"input": "a", "top_logprobs": 3}, "top_logprobs"),
        (1, {"input": "a", "include": ["message.output_text.logprobs"]}, "include: logprobs"),
        (1, {"input": "a", "text": {"format": {"type": "json_schema"}}}, "text.format"),
        (2, {"messages": [{"role": "assistant", "content": "a"}]}, "an answer cannot be begun"),
        (2, {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, r"messages\[0\].content\[0\]"),
        (2, {"messages": [{"role": "user", "content": "a"}], "tools": [{"name": ""}]}, r"tools\[0\]: a tool needs a name"),
        (2, {"messages": [{"role": "user", "content": "a"}], "stream": "yes"}, "stream"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_place(dialect: int, request_body: Json, place: str) -> None:
    with pytest.raises(Refused, match=place):
        DIALECTS[dialect].read(request_body)


def test_half_characters_are_mended_when_read() -> None:
    (message,) = OpenAIChat().read({"messages": [{"role": "user", "content": "a\ud800b"}]}).messages
    assert message.text == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_every_problem_has_words_in_every_dialect(dialect: Dialect) -> None:
    for kind in STATUS:
        problem = Problem(kind, "why")
        error = dialect.error(problem)["error"]
        assert "why" in error["message"]
        assert error["retryable"] == (kind in {"busy", "unavailable"})
        assert b"why" in dialect.error_event(problem)
        assert b"why" in dialect.stream(HEAD, ASKED).error(problem)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.name)
def test_what_agents_send_by_habit_is_no_reason_to_refuse_them(dialect: Dialect) -> None:
    habits = {"logprobs": False, "top_logprobs": 0, "background": False, "store": True, "parallel_tool_calls": False, "tool_choice": "auto"}
    more = {
        "include": ["reasoning.encrypted_content"],
        "logit_bias": {},
        "top_k": 5,
        "seed": 1,
        "thinking": {"type": "adaptive"},
        "user": "u",
    }
    asked = {"input": "hi"} if dialect.name == "openai_responses" else {"messages": [{"role": "user", "content": "hi"}]}
    assert dialect.read({**asked, **habits, **more}).messages == (Message("user", "hi"),)
