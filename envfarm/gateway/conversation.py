"""What an agent asks for, whatever its dialect: messages and tools in one form, and their identity.

Pure. Dialects make these; the forest compares them by digest; the chat template renders them. What a dialect says beside the words (ids of
items, cache hints, annotations) is no part of a message, so that two messages are equal exactly when a template renders them alike,
but for how numbers are spelled in calls' arguments, and for white space around an assistant's words.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One function that the assistant calls."""

    call_id: str
    name: str
    arguments: str
    """JSON text as the model wrote it; compared by what it says to JavaScript, not by its spaces."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of one speaker."""

    role: Role
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant."""
    answers: str = ""
    """Of a tool: the call's id."""
    reasoning: str = ""
    """Of an assistant. No part of its identity: most agents do not send it back, and its tokens stand in the forest all the same."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the agent offers."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """A JSON schema."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How the agent would like to have sampled. The farm decides: it heeds `stop`, and `max_tokens` where they are fewer.

    A `seed` only tells requests apart.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Asked:
    """A request, read."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    wishes: Wishes = Wishes()
    model: str = ""
    """The agent's word for the model: told back to it, and of no other use."""
    stream: bool = False
    stream_usage: bool = True
    """Whether a stream ends with the count of tokens, where the dialect lets the agent choose."""
    large: bool = False
    """Whether it may be much work."""

    @cached_property
    def links(self) -> tuple[bytes, ...]:
        """The identity of each prefix of the messages, the empty one first: equal exactly when the prefixes and the tools are."""
        links = [offer(self.tools)]
        for message in self.messages:
            links.append(link(links[-1], message))
        return tuple(links)

    @property
    def identity(self) -> bytes:
        """32 bytes that are equal for requests which ask for the same to be sampled in the same way, however they are to be answered."""
        w = self.wishes
        return _digest([self.links[-1].hex(), w.max_tokens, w.temperature, w.top_p, w.stop, w.seed])


def identity(message: Message) -> bytes:
    """32 bytes that are equal for messages that a template renders alike, and where only the spelling of a call's numbers differs.

    White space around an assistant's words makes no difference: scaffolds strip what they send back.
    """
    calls = [(c.call_id, c.name, _canonical(c.arguments)) for c in message.calls]
    text = message.text.strip() if message.role == "assistant" else message.text
    return _digest([message.role, text, calls, message.answers])


def offer(tools: Sequence[Tool]) -> bytes:
    """32 bytes for what stands before all messages: the tools, in their order."""
    return _digest([[t.name, t.description, t.parameters] for t in tools])


def link(prefix: bytes, message: Message) -> bytes:
    """The identity of a prefix with one message more."""
    return hashlib.sha256(prefix + identity(message)).digest()


def texts(value: Any) -> Iterator[str]:
    """Every string within plain data, keys too."""
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from texts(key)
                yield from texts(inner)
        case list() | tuple():
            for inner in value:
                yield from texts(inner)
        case _:
            pass


def whole(text: str) -> str:
    """A text in whole characters: half ones, which JSON may spell and no tokenizer knows, become replacement characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean(value: Any) -> Any:
    """Plain data with its strings in whole characters."""
    match value:
        case str():
            return whole(value)
        case list():
            return [clean(v) for v in value]
        case dict():
            return {whole(k): clean(v) for k, v in value.items()}
        case _:
            return value


def parsed(arguments: str) -> Any:
    """Arguments as data, in whole characters; the text itself where it is not JSON."""
    try:
        return clean(read_json(arguments))
    except (ValueError, RecursionError):
        return arguments


def read_json(text: str | bytes) -> Any:
    """Data of which JSON can be written again. Raises `ValueError`, for `NaN`, `Infinity` and `1e999`, too, and `RecursionError`."""
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number of JSON")
    return value


def _canonical(arguments: str) -> Any:
    try:
        value = json.loads(arguments, parse_int=_double, parse_float=_double, parse_constant=_finite)
    except (ValueError, RecursionError):
        value = arguments
    return ["text", value] if isinstance(value, str) else value


def _double(text: str) -> float:
    """A number as clients in JavaScript give it back, to whom 1.0 and 1, 1e3 and 1000, -0.0 and 0 are one."""
    return _finite(text) + 0.0


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).digest()
