"""OpenAI chat completions, as most scaffolds speak it. Pure.

Source: the OpenAPI description of `POST /v1/chat/completions`. Reasoning is told as `reasoning_content`, as engines do.
"""

from collections.abc import Mapping
from typing import Any

from envfarm.gateway import replies
from envfarm.gateway.conversation import Asked, Message, Role, Tool, ToolCall
from envfarm.gateway.dialects import openai_errors, reading
from envfarm.gateway.dialects.dialect import Answered, Head, Json, event
from envfarm.gateway.problems import Problem
from envfarm.gateway.replies import Called, Part, Words

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
DONE = b"data: [DONE]\n\n"


class OpenAIChat:
    """See `Dialect`."""

    name = "openai_chat"

    def read(self, body: Mapping[str, Any]) -> Asked:
        """See `Dialect`."""
        if body.get("n") not in (None, 1):
            raise reading.refuse("n", "one answer at a time is sampled")
        reading.check_absent(body, ("logprobs", "top_logprobs"), reading.NO_LOGPROBS)
        reading.check_absent(body, ("functions",), "offer them as `tools`")
        reading.check_absent(body, ("audio",), "the model has words only")
        _plain_format(body.get("response_format"), "response_format")
        messages = [_message(row, f"messages[{n}]") for n, row in enumerate(reading.rows(body.get("messages"), "messages"))]
        tools = [_tool(row, f"tools[{n}]") for n, row in enumerate(reading.rows(body.get("tools"), "tools"))]
        how = reading.wishes(body, most=("max_completion_tokens", "max_tokens"))
        options = body.get("stream_options")
        usage = isinstance(options, dict) and reading.flag(options, "include_usage")
        return reading.asked(body, messages, tools, how, stream_usage=usage)

    def whole(self, answered: Answered) -> Json:
        """See `Dialect`."""
        said = replies.answer(answered.parts)
        message: Json = {"role": "assistant", "content": said.text or (None if said.calls else "")}
        if said.reasoning:
            message["reasoning_content"] = said.reasoning
        if said.calls:
            message["tool_calls"] = [_call_row(c) for c in said.calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answered)}
        return {**_frame(answered.head, "chat.completion"), "choices": [choice], "usage": _usage(answered)}

    def stream(self, head: Head, asked: Asked) -> "_Stream":
        """See `Dialect`."""
        return _Stream(head, usage=asked.stream_usage)

    def error(self, problem: Problem) -> Json:
        """See `Dialect`."""
        return openai_errors.error(problem)

    def error_event(self, problem: Problem) -> bytes:
        """See `Dialect`."""
        return event(openai_errors.error(problem))


class _Stream:
    def __init__(self, head: Head, *, usage: bool) -> None:
        self._frame = _frame(head, "chat.completion.chunk")
        self._usage = usage
        self._calls = 0

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def part(self, part: Part) -> bytes:
        if isinstance(part, Words):
            return self._chunk({"content" if part.kind == "text" else "reasoning_content": part.text})
        row = {"index": self._calls, **_call_row(ToolCall(part.call_id, part.name, part.arguments))}
        self._calls += 1
        return self._chunk({"tool_calls": [row]})

    def end(self, answered: Answered) -> bytes:
        last = self._chunk({}, _finish(answered))
        if self._usage:
            last += event({**self._frame, "choices": [], "usage": _usage(answered)})
        return last + DONE

    def error(self, problem: Problem) -> bytes:
        return event(openai_errors.error(problem))

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        return event({**self._frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})


def _message(row: reading.Row, where: str) -> Message:
    role = ROLES.get(str(row.get("role")))
    if role is None:
        raise reading.refuse(f"{where}.role", f"{row.get('role')!r} is no role that can be served")
    said = reading.content(row.get("content"), f"{where}.content", kinds=("text", "refusal"))
    if role == "tool":
        return Message(role, said, answers=reading.text(row.get("tool_call_id"), f"{where}.tool_call_id"))
    if role != "assistant":
        return Message(role, said)
    calls = tuple(_call(c, f"{where}.tool_calls[{n}]") for n, c in enumerate(reading.rows(row.get("tool_calls"), f"{where}.tool_calls")))
    thought = row.get("reasoning_content") or row.get("reasoning")
    return Message(role, said, calls, reasoning=reading.text(thought, where) if isinstance(thought, str) else "")


def _call(row: reading.Row, where: str) -> ToolCall:
    function = row.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise reading.refuse(where, "a call of a named function is needed")
    arguments = reading.arguments(function.get("arguments"), f"{where}.function.arguments")
    return ToolCall(reading.text(row.get("id"), f"{where}.id"), reading.text(function["name"], where), arguments)


def _tool(row: reading.Row, where: str) -> Tool:
    function = row.get("function")
    if not isinstance(function, dict):
        raise reading.refuse(where, "only functions can be offered")
    return reading.tool(function.get("name"), function.get("description"), function.get("parameters"), where)


def _call_row(call: ToolCall) -> Json:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _plain_format(value: Any, where: str) -> None:
    if isinstance(value, dict) and value.get("type") not in (None, "text"):
        raise reading.refuse(where, "the model is not held to a format: ask for text")


def _frame(head: Head, kind: str) -> Json:
    return {"id": f"chatcmpl-{head.answer_id}", "object": kind, "created": head.created_s, "model": head.model}


def _finish(answered: Answered) -> str:
    if answered.finish_reason == "length":
        return "length"
    return "tool_calls" if any(isinstance(p, Called) for p in answered.parts) else "stop"


def _usage(answered: Answered) -> Json:
    asked, said = answered.head.prompt_tokens, answered.completion_tokens
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
