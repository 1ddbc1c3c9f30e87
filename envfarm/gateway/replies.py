"""A model's text as an answer: words, reasoning and tool calls, read as it comes.

Pure. What is no proper tool call stays text, whole and in its place, so that the model sees its own mistake and learns from it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from envfarm.gateway.conversation import Message, ToolCall, read_json


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of what the model says or, where the style tells them apart, thinks."""

    text: str
    kind: Literal["text", "reasoning"] = "text"


@dataclass(frozen=True, slots=True)
class Called:
    """A whole tool call."""

    name: str
    arguments: str
    """A JSON object's text."""
    call_id: str = ""
    """Given by the session: models have no word for it."""


Part = Words | Called


Tags = tuple[str, str]
CALL: Tags = ("<tool_call>", "</tool_call>")
REASONING: Tags = ("<think>", "</think>")
OPENING = {tags[0]: tags for tags in (CALL, REASONING)}


class TaggedReply:
    """Reads one completion in Hermes' and Qwen's way: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, `<think>…</think>` before it.

    White space beside tool calls is the format's and not said; all other text is said as it is.
    """

    def __init__(self, *, thinks_first: bool = False) -> None:
        """`thinks_first` is for prompts that open the reasoning themselves, so that a completion begins inside of it."""
        self._inside: Tags | None = REASONING if thinks_first else None
        self._held = ""
        """Not yet told: the beginning of a tag, perhaps, or the inside of a call."""
        self._space = ""
        """White space that is text only if text follows."""
        self._called = False
        self._spoke = False

    def feed(self, text: str) -> list[Part]:
        """The parts that this much more text completes."""
        self._held += text
        parts: list[Part] = []
        while (step := self._step()) is not None:
            parts += step
        return parts

    def end(self) -> list[Part]:
        """What is left when the completion is over. A call without an end is text."""
        if self._inside == CALL:
            parts = self._say(CALL[0] + self._held)
        elif self._inside:
            parts = [Words(self._held, "reasoning")] if self._held else []
        else:
            parts = self._say(self._held)
        if self._space and not self._called:
            parts.append(Words(self._space))
        self._held = self._space = ""
        return parts

    def _step(self) -> list[Part] | None:
        """Read on by one tag or one stretch; None when more text is needed."""
        if self._inside is None:
            return self._outside()
        inside, found, rest = self._held.partition(self._inside[1])
        if self._inside == CALL:
            if not found:
                return None
            self._held, self._inside = rest, None
            return self._call(inside)
        if found:
            self._held, self._inside = rest, None
            return [Words(inside, "reasoning")] if inside else []
        ready, self._held = hold_back(self._held, (self._inside[1],))
        return [Words(ready, "reasoning")] if ready else None

    def _outside(self) -> list[Part] | None:
        places = [(at, tag) for tag in OPENING if (at := self._held.find(tag)) >= 0]
        if places:
            at, tag = min(places)
            before, self._held = self._held[:at], self._held[at + len(tag) :]
            self._inside = OPENING[tag]
            return self._say(before)
        ready, self._held = hold_back(self._held, tuple(OPENING))
        return self._say(ready) if ready else None

    def _say(self, text: str) -> list[Part]:
        text = self._space + text
        said = text.rstrip()
        self._space = text[len(said) :]
        if not said:
            return []
        if self._called:
            said = said.lstrip() if not self._spoke else said
        self._spoke = True
        return [Words(said)]

    def _call(self, inside: str) -> list[Part]:
        call = read_call(inside)
        if call is None:
            return self._say(inside.join(CALL))
        self._space, self._called = "", True
        self._spoke = False
        return [call]


def opens_reasoning(words: str) -> bool:
    """Whether a prompt that ends with these words opens the reasoning itself, as some templates do for some messages."""
    return words.rstrip().endswith(REASONING[0])


def read_call(inside: str) -> Called | None:
    """A call as JSON with a name and an object of arguments; None for anything else."""
    try:
        match read_json(inside):
            case {"name": str(name), "arguments": dict(arguments), **rest} if name and not rest:
                return Called(name, _json(arguments))
    except (ValueError, RecursionError):
        pass
    return None


def _json(arguments: dict[str, Any]) -> str:
    text = json.dumps(arguments, ensure_ascii=False)
    # JSON may spell half a character, which is no text.
    return text if text.isascii() or _is_text(text) else json.dumps(arguments)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def hold_back(text: str, marks: Sequence[str]) -> tuple[str, str]:
    """Split a text before the longest end of it with which one of the marks may begin."""
    for size in range(min(max(map(len, marks), default=1) - 1, len(text)), 0, -1):
        if any(mark.startswith(text[-size:]) for mark in marks):
            return text[:-size], text[-size:]
    return text, ""


class Stops:
    """Cuts a stream of text where the first of some strings begins."""

    def __init__(self, marks: Sequence[str]) -> None:
        self._marks = tuple(m for m in marks if m)
        self._held = ""
        self.over = False

    def feed(self, text: str) -> str:
        """What may be told by now."""
        if self.over or not self._marks:
            return "" if self.over else text
        self._held += text
        places = [at for mark in self._marks if (at := self._held.find(mark)) >= 0]
        if places:
            self.over = True
            ready, self._held = self._held[: min(places)], ""
            return ready
        ready, self._held = hold_back(self._held, self._marks)
        return ready

    def end(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held


def answer(parts: Sequence[Part]) -> Message:
    """Parts as the message that the agent is to send back."""
    text = "".join(p.text for p in parts if isinstance(p, Words) and p.kind == "text")
    reasoning = "".join(p.text for p in parts if isinstance(p, Words) and p.kind == "reasoning")
    calls = tuple(ToolCall(p.call_id, p.name, p.arguments) for p in parts if isinstance(p, Called))
    return Message("assistant", text, calls, reasoning=reasoning)


def blocks(parts: Sequence[Part]) -> list[Part]:
    """The same parts with neighbouring words of one kind as one."""
    made: list[Part] = []
    for part in parts:
        last = made[-1] if made else None
        if isinstance(part, Words) and isinstance(last, Words) and part.kind == last.kind:
            made[-1] = Words(last.text + part.text, part.kind)
        else:
            made.append(part)
    return made
