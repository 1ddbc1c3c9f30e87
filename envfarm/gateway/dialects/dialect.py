"""What a dialect is: a request's JSON to `Asked`, an answer to a response's JSON or a stream's events. Pure, one file each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from envfarm.core.sampled import FinishReason
from envfarm.gateway.conversation import Asked
from envfarm.gateway.problems import Problem
from envfarm.gateway.replies import Part

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of an answer before it begins."""

    answer_id: str
    model: str
    created_s: int
    """Seconds since 1970."""
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer."""

    head: Head
    parts: tuple[Part, ...]
    finish_reason: FinishReason
    completion_tokens: int
    stop: str = ""
    """The agent's string that ended the answer; empty where none did."""


class AnswerStream(Protocol):
    """The events of one answer, as bytes to send."""

    def begin(self) -> bytes:
        """Before the first part."""
        ...

    def part(self, part: Part) -> bytes:
        """One part, which may be a piece of the words that the last one began."""
        ...

    def end(self, answered: Answered) -> bytes:
        """After the last part."""
        ...

    def error(self, problem: Problem) -> bytes:
        """In place of what is left."""
        ...


class Dialect(Protocol):
    """One way of asking."""

    @property
    def name(self) -> str:
        """Kept with the calls."""
        ...

    def read(self, body: Mapping[str, Any]) -> Asked:
        """Read a request. Raises `Refused` with the place of what is wrong or cannot be served."""
        ...

    def whole(self, answered: Answered) -> Json:
        """The body of a response without streaming."""
        ...

    def stream(self, head: Head, asked: Asked) -> AnswerStream:
        """The events of a response with streaming."""
        ...

    def error(self, problem: Problem) -> Json:
        """The body of an error's response."""
        ...

    def error_event(self, problem: Problem) -> bytes:
        """All of a stream whose answer never begins."""
        ...


def event(data: Json, name: str = "") -> bytes:
    """One server-sent event."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + b"data: " + text.encode("utf-8", errors="replace") + b"\n\n"
