"""OpenAI responses, without memory: each request holds the whole input. Pure.

Source: the OpenAPI description of `POST /v1/responses` and of its stream's events.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from envfarm.gateway import replies
from envfarm.gateway.conversation import Asked, Message, Role, Tool, ToolCall
from envfarm.gateway.dialects import openai_errors, reading
from envfarm.gateway.dialects.dialect import Answered, Head, Json, event
from envfarm.gateway.problems import Problem
from envfarm.gateway.replies import Called, Part, Words

SAID = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
ANSWERS = re.compile(r"[a-z]+_([0-9a-f]{24})_[0-9]+")
"""An item's id with the answer's id in it."""
NOT_BEGUN = Head("", "", 0, 0)
"""Of an answer that never begins."""
ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class OpenAIResponses:
    """See `Dialect`."""

    name = "openai_responses"

    def read(self, body: Mapping[str, Any]) -> Asked:
        """See `Dialect`."""
        for key in ("previous_response_id", "conversation", "prompt"):
            if body.get(key) is not None:
                raise reading.refuse(key, "nothing is remembered between requests: send the whole input")
        reading.check_absent(body, ("background",), "an answer is given to the request that asks for it, and kept for nobody else")
        reading.check_absent(body, ("top_logprobs",), reading.NO_LOGPROBS)
        included = body.get("include")
        if isinstance(included, list) and "message.output_text.logprobs" in included:
            raise reading.refuse("include", reading.NO_LOGPROBS)
        shape = body.get("text")
        wanted = shape.get("format") if isinstance(shape, dict) else None
        if isinstance(wanted, dict) and wanted.get("type") not in (None, "text"):
            raise reading.refuse("text.format", "the model is not held to a format: ask for text")
        instructions = reading.text(body.get("instructions"), "instructions")
        given = body.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else reading.rows(given, "input")
        messages = [Message("system", instructions)] if instructions else []
        messages += _turns(items)
        tools = [
            _tool(row, f"tools[{n}]") for n, row in enumerate(reading.rows(body.get("tools"), "tools")) if row.get("type") == "function"
        ]
        return reading.asked(body, messages, tools, reading.wishes(body, most=("max_output_tokens",)))

    def whole(self, answered: Answered) -> Json:
        """See `Dialect`."""
        # An answer without a word is told as one, so that the agent can send it back.
        parts = replies.blocks(answered.parts) or [Words("")]
        items = [_item(part, f"{answered.head.answer_id}_{n}") for n, part in enumerate(parts)]
        cut = answered.finish_reason == "length"
        return _response(answered.head, "incomplete" if cut else "completed", items, _usage(answered))

    def stream(self, head: Head, asked: Asked) -> "_Stream":  # noqa: ARG002 - the contract's
        """See `Dialect`."""
        return _Stream(head, self)

    def error(self, problem: Problem) -> Json:
        """See `Dialect`."""
        return openai_errors.error(problem)

    def error_event(self, problem: Problem) -> bytes:
        """See `Dialect`."""
        return _Stream(NOT_BEGUN, self).error(problem)


class _Stream:
    def __init__(self, head: Head, dialect: OpenAIResponses) -> None:
        self._head = head
        self._dialect = dialect
        self._sequence = 0
        self._index = -1
        self._kind: Literal["", "text", "reasoning"] = ""
        """Of the words that are being said; empty where none are."""
        self._said: list[str] = []

    def begin(self) -> bytes:
        response = _response(self._head, "in_progress", [], None)
        return self._event("response.created", response=response) + self._event("response.in_progress", response=response)

    def part(self, part: Part) -> bytes:
        if isinstance(part, Called):
            return self._close() + self._call(part)
        said = b""
        if self._kind != part.kind:
            said = self._close() + self._open(part)
        self._said.append(part.text)
        if part.kind == "reasoning":
            return said + self._at("response.reasoning_text.delta", content_index=0, delta=part.text)
        return said + self._at("response.output_text.delta", content_index=0, delta=part.text, logprobs=[])

    def end(self, answered: Answered) -> bytes:
        response = self._dialect.whole(answered)
        empty = b"" if answered.parts else self._open(Words(""))
        return empty + self._close() + self._event(f"response.{response['status']}", response=response)

    def error(self, problem: Problem) -> bytes:
        told = openai_errors.error(problem)["error"]
        why = {"code": told["code"] or "invalid_prompt", "message": told["message"], "retryable": told["retryable"]}
        failed = self._event("response.failed", response=_response(self._head, "failed", [], None) | {"error": why})
        # With `error` in it OpenAI's own client raises, of which `response.failed` is not enough.
        return failed + self._event("error", **{k: told[k] for k in ("code", "message", "param", "retryable")}, error=told)

    def _open(self, part: Words) -> bytes:
        self._index += 1
        self._kind = part.kind
        empty = Words("", part.kind)
        item = {**_item(empty, self._item_id), "content": []} | ({"status": "in_progress"} if part.kind == "text" else {})
        said = self._event("response.output_item.added", output_index=self._index, item=item)
        if part.kind == "text":
            said += self._at("response.content_part.added", content_index=0, part=_content(empty))
        return said

    def _close(self) -> bytes:
        if not self._kind:
            return b""
        words = Words("".join(self._said), self._kind)
        self._kind, self._said = "", []
        if words.kind == "reasoning":
            said = self._at("response.reasoning_text.done", content_index=0, text=words.text)
        else:
            said = self._at("response.output_text.done", content_index=0, text=words.text, logprobs=[])
            said += self._at("response.content_part.done", content_index=0, part=_content(words))
        return said + self._event("response.output_item.done", output_index=self._index, item=_item(words, self._item_id))

    def _call(self, part: Called) -> bytes:
        self._index += 1
        item = _item(part, self._item_id)
        begun = {**item, "arguments": "", "status": "in_progress"}
        said = self._event("response.output_item.added", output_index=self._index, item=begun)
        said += self._at("response.function_call_arguments.delta", delta=part.arguments)
        said += self._at("response.function_call_arguments.done", arguments=part.arguments, name=part.name)
        return said + self._event("response.output_item.done", output_index=self._index, item=item)

    @property
    def _item_id(self) -> str:
        return f"{self._head.answer_id}_{self._index}"

    def _at(self, kind: str, **fields: Any) -> bytes:
        prefix = "fc_" if "function_call" in kind else "rs_" if "reasoning" in kind else "msg_"
        return self._event(kind, item_id=prefix + self._item_id, output_index=self._index, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        said = event({"type": kind, "sequence_number": self._sequence, **fields}, kind)
        self._sequence += 1
        return said


def _turns(items: Sequence[reading.Row]) -> list[Message]:
    """Items as messages. An answer's come back one by one; they are one turn, and what tools said between its calls stands behind it."""
    turns: list[list[Message]] = []
    own: list[Message] = []
    """The last answer's items; none behind the next word of a user."""
    answer = ""
    for n, item in enumerate(items):
        message = _message(item, f"input[{n}]")
        if message.role != "assistant":
            turns.append([message])
            own = own if message.role == "tool" else []
            continue
        found = ANSWERS.fullmatch(str(item.get("id")))
        of = found[1] if found else ""
        # Only by their ids are calls that one answer made told from those of an answer to each tool.
        if own and (turns[-1] is own or of == answer != ""):
            own.append(message)
            answer = of or answer
        else:
            own, answer = [message], of
            turns.append(own)
    return [turn[0] if len(turn) == 1 else _whole(turn) for turn in turns]


def _whole(items: Sequence[Message]) -> Message:
    calls = tuple(call for item in items for call in item.calls)
    return Message("assistant", "".join(i.text for i in items), calls, reasoning="".join(i.reasoning for i in items))


def _message(item: reading.Row, where: str) -> Message:
    match item.get("type", "message"):
        case "message":
            role = ROLES.get(str(item.get("role")))
            if role is None:
                raise reading.refuse(f"{where}.role", f"{item.get('role')!r} is no role of a message")
            return Message(role, reading.content(item.get("content"), f"{where}.content", kinds=SAID))
        case "function_call" if isinstance(item.get("name"), str):
            call_id = reading.text(item.get("call_id"), f"{where}.call_id")
            name = reading.text(item["name"], f"{where}.name")
            call = ToolCall(call_id, name, reading.arguments(item.get("arguments"), f"{where}.arguments"))
            return Message("assistant", calls=(call,))
        case "function_call_output":
            seen = reading.content(item.get("output"), f"{where}.output", kinds=SAID)
            return Message("tool", seen, answers=reading.text(item.get("call_id"), f"{where}.call_id"))
        case "reasoning":
            thought = reading.content(item.get("content") or item.get("summary"), f"{where}.content", kinds=SAID)
            return Message("assistant", reasoning=thought)
        case other:
            raise reading.refuse(f"{where}.type", f"items of type {other!r} cannot be served to this model")


def _tool(row: reading.Row, where: str) -> Tool:
    return reading.tool(row.get("name"), row.get("description"), row.get("parameters"), where)


def _item(part: Part, item_id: str) -> Json:
    match part:
        case Called():
            call = {"call_id": part.call_id, "name": part.name, "arguments": part.arguments}
            return {"id": f"fc_{item_id}", "type": "function_call", "status": "completed", **call}
        case Words(kind="reasoning"):
            return {"id": f"rs_{item_id}", "type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": part.text}]}
        case Words():
            return {"id": f"msg_{item_id}", "type": "message", "status": "completed", "role": "assistant", "content": [_content(part)]}


def _content(words: Words) -> Json:
    return {"type": "output_text", "text": words.text, "annotations": [], "logprobs": []}


def _response(head: Head, status: str, output: list[Json], usage: Json | None) -> Json:
    return {
        "id": f"resp_{head.answer_id}",
        "object": "response",
        "created_at": head.created_s,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": head.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": usage,
    }


def _usage(answered: Answered) -> Json:
    asked, said = answered.head.prompt_tokens, answered.completion_tokens
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + said,
    }
