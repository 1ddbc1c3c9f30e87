"""Anthropic's messages. Pure.

Source: the reference of `POST /v1/messages` and of its stream's events. Where agents put cache hints or a billing line into what the model
is told, those are dropped: they change from call to call and are no words to the model.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from envfarm.gateway import replies
from envfarm.gateway.conversation import Asked, Message, ToolCall, parsed
from envfarm.gateway.dialects import reading
from envfarm.gateway.dialects.dialect import Answered, Head, Json, event
from envfarm.gateway.problems import Kind, Problem
from envfarm.gateway.replies import Called, Part, Words

FAILED = "<error>\n{}\n</error>"
"""What a tool said that failed: templates have no other word for it, and models know this one."""
BILLING = "x-anthropic-billing-header:"
ERRORS: dict[Kind, str] = {
    "invalid": "invalid_request_error",
    "unauthorized": "authentication_error",
    "unknown": "not_found_error",
    "too_large": "request_too_large",
    "context": "invalid_request_error",
    "budget": "permission_error",
    "busy": "rate_limit_error",
    "unavailable": "api_error",
}


class AnthropicMessages:
    """See `Dialect`."""

    name = "anthropic_messages"

    def read(self, body: Mapping[str, Any]) -> Asked:
        """See `Dialect`."""
        system = _system(body.get("system"))
        messages = [Message("system", system)] if system else []
        for n, row in enumerate(reading.rows(body.get("messages"), "messages")):
            messages += _turn(row, f"messages[{n}]")
        if messages and messages[-1].role == "assistant":
            raise reading.refuse("messages", "the last one is the assistant's: an answer cannot be begun for this model")
        tools = [
            reading.tool(row.get("name"), row.get("description"), row.get("input_schema"), f"tools[{n}]")
            for n, row in enumerate(reading.rows(body.get("tools"), "tools"))
            if row.get("type") in (None, "custom")
        ]
        how = reading.wishes(body, most=("max_tokens",), stop="stop_sequences")
        return reading.asked(body, messages, tools, how)

    def whole(self, answered: Answered) -> Json:
        """See `Dialect`."""
        content = [_block(part) for part in replies.blocks(answered.parts)]
        usage = _usage(answered.head, answered.completion_tokens)
        return {**_message(answered.head), "content": content, **_stop(answered), "usage": usage}

    def stream(self, head: Head, asked: Asked) -> "_Stream":  # noqa: ARG002 - the contract's
        """See `Dialect`."""
        return _Stream(head, self)

    def error(self, problem: Problem) -> Json:
        """See `Dialect`."""
        # Agents know by these words that they are to shorten the conversation.
        message = f"prompt is too long: {problem.message}" if problem.kind == "context" else problem.message
        return {"type": "error", "error": {"type": ERRORS[problem.kind], "message": message, "retryable": problem.retryable}}

    def error_event(self, problem: Problem) -> bytes:
        """See `Dialect`."""
        return event(self.error(problem), "error")


class _Stream:
    def __init__(self, head: Head, dialect: AnthropicMessages) -> None:
        self._head = head
        self._dialect = dialect
        self._index = -1
        self._open = ""

    def begin(self) -> bytes:
        message = {**_message(self._head), "content": [], "stop_reason": None, "usage": _usage(self._head, 0)}
        return _event("message_start", message=message)

    def part(self, part: Part) -> bytes:
        if isinstance(part, Called):
            start = {"type": "tool_use", "id": part.call_id, "name": part.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": part.arguments}
            return self._start(start) + self._delta(delta) + self._stop()
        thinks = part.kind == "reasoning"
        said = b""
        if self._open != part.kind:
            said = self._start({"type": "thinking", "thinking": "", "signature": ""} if thinks else {"type": "text", "text": ""})
            self._open = part.kind
        delta = {"type": "thinking_delta", "thinking": part.text} if thinks else {"type": "text_delta", "text": part.text}
        return said + self._delta(delta)

    def end(self, answered: Answered) -> bytes:
        usage = _usage(self._head, answered.completion_tokens)
        return self._stop() + _event("message_delta", delta=_stop(answered), usage=usage) + _event("message_stop")

    def error(self, problem: Problem) -> bytes:
        return self._dialect.error_event(problem)

    def _start(self, block: Json) -> bytes:
        before = self._stop()
        self._index += 1
        self._open = block["type"]
        return before + _event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: Json) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)

    def _stop(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", index=self._index)


def _system(value: Any) -> str:
    if isinstance(value, list):
        value = [b for b in value if not (isinstance(b, dict) and str(b.get("text", "")).startswith(BILLING))]
    return reading.content(value, "system", between="\n")


def _turn(row: reading.Row, where: str) -> Iterator[Message]:
    content = row.get("content")
    match row.get("role"):
        case "user" if isinstance(content, list):
            yield from _user(reading.rows(content, f"{where}.content"), f"{where}.content")
        case "user" | "system" as role:
            yield Message(role, reading.content(content, f"{where}.content", between="\n"))
        case "assistant":
            yield _assistant([{"type": "text", "text": content}] if isinstance(content, str) else reading.rows(content, where), where)
        case other:
            raise reading.refuse(f"{where}.role", f"{other!r} is no role of a message")


def _user(blocks: list[reading.Row], where: str) -> Iterator[Message]:
    said = []
    for n, block in enumerate(blocks):
        if block.get("type") == "tool_result":
            seen = reading.content(block.get("content"), f"{where}[{n}].content", between="\n")
            if reading.flag(block, "is_error", f"{where}[{n}].is_error"):
                seen = FAILED.format(seen)
            yield Message("tool", seen, answers=reading.text(block.get("tool_use_id"), f"{where}[{n}].tool_use_id"))
        else:
            said.append(block)
    if said:
        yield Message("user", reading.content(said, where, between="\n"))


def _assistant(blocks: list[reading.Row], where: str) -> Message:
    text, reasoning = "", ""
    calls = []
    for n, block in enumerate(blocks):
        match block.get("type"):
            case "text":
                text += reading.text(block.get("text"), f"{where}.content[{n}].text")
            case "tool_use" if isinstance(block.get("name"), str):
                call_id = reading.text(block.get("id"), f"{where}.content[{n}].id")
                name = reading.text(block["name"], f"{where}.content[{n}].name")
                calls.append(ToolCall(call_id, name, reading.arguments(block.get("input"), f"{where}.content[{n}].input")))
            case "thinking":
                reasoning += reading.text(block.get("thinking"), f"{where}.content[{n}].thinking")
            case "redacted_thinking":
                pass
            case other:
                raise reading.refuse(f"{where}.content[{n}]", f"blocks of type {other!r} cannot be served to this model")
    return Message("assistant", text, tuple(calls), reasoning=reasoning)


def _block(part: Part) -> Json:
    match part:
        case Called():
            return {"type": "tool_use", "id": part.call_id, "name": part.name, "input": parsed(part.arguments)}
        case Words(kind="reasoning"):
            return {"type": "thinking", "thinking": part.text, "signature": ""}
        case Words():
            return {"type": "text", "text": part.text}


def _message(head: Head) -> Json:
    return {"id": f"msg_{head.answer_id}", "type": "message", "role": "assistant", "model": head.model, "stop_sequence": None}


def _stop(answered: Answered) -> Json:
    if answered.stop:
        reason = "stop_sequence"
    elif answered.finish_reason == "length":
        reason = "max_tokens"
    else:
        reason = "tool_use" if any(isinstance(p, Called) for p in answered.parts) else "end_turn"
    return {"stop_reason": reason, "stop_sequence": answered.stop or None}


def _usage(head: Head, said: int) -> Json:
    return {"input_tokens": head.prompt_tokens, "output_tokens": said}


def _event(kind: str, **fields: Any) -> bytes:
    return event({"type": kind, **fields}, kind)
