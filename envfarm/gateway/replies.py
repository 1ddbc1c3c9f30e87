"""A model's text as an answer: words, reasoning and tool calls, read as it comes.

Pure. What is no proper tool call stays text, whole and in its place, so that the model sees its own mistake and learns from it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
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
TAGS: dict[Tags | None, re.Pattern[str]] = {
    None: re.compile("|".join(map(re.escape, OPENING))),
    CALL: re.compile(re.escape(CALL[1])),
    REASONING: re.compile(re.escape(REASONING[1])),
}
"""Those that count inside of each, and outside of all."""


class TaggedReply:
    """Reads one completion in Hermes' and Qwen's way: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, `<think>…</think>` before it.

    White space beside tool calls is the format's and not said; all other text is said as it is.
    """

    def __init__(self, *, thinks_first: bool = False) -> None:
        """`thinks_first` is for prompts that open the reasoning themselves, so that a completion begins inside of it."""
        self._inside: Tags | None = REASONING if thinks_first else None
        self._held = ""
        """Not yet told: with it a tag may begin."""
        self._body: list[str] = []
        """The inside of a call."""
        self._space: list[str] = []
        """White space that is text only if text follows."""
        self._called = False
        self._spoke = False

    def feed(self, text: str) -> list[Part]:
        """The parts that this much more text completes. Each character is looked at a bounded number of times."""
        text, at = self._held + text, 0
        parts: list[Part] = []
        while tag := TAGS[self._inside].search(text, at):
            parts += self._pass(text[at : tag.start()])
            parts += self._turn(tag[0])
            at = tag.end()
        ready, self._held = hold_back(text[at:], (self._inside[1],) if self._inside else tuple(OPENING))
        return parts + self._pass(ready)

    def end(self) -> list[Part]:
        """What is left when the completion is over. A call without an end is text."""
        parts = self._pass(self._held)
        if self._inside == CALL:
            parts = self._say(CALL[0] + "".join(self._body))
        if self._space and not self._called:
            parts.append(Words("".join(self._space)))
        self._held = ""
        self._body, self._space = [], []
        return parts

    def _pass(self, text: str) -> list[Part]:
        """Text without a tag that counts where it stands."""
        if self._inside is None:
            return self._say(text)
        if self._inside == CALL:
            self._body.append(text)
            return []
        return [Words(text, "reasoning")] if text else []

    def _turn(self, tag: str) -> list[Part]:
        """A tag that counts."""
        if self._inside is None:
            self._inside = OPENING[tag]
            return []
        inside, self._inside = self._inside, None
        if inside == REASONING:
            return []
        body, self._body = "".join(self._body), []
        return self._call(body)

    def _say(self, text: str) -> list[Part]:
        if not text or text.isspace():
            self._space += [text] if text else []
            return []
        text = "".join(self._space) + text
        said = text.rstrip()
        self._space = [text[len(said) :]] if len(said) < len(text) else []
        if self._called:
            said = said.lstrip() if not self._spoke else said
        self._spoke = True
        return [Words(said)]

    def _call(self, inside: str) -> list[Part]:
        call = read_call(inside)
        if call is None:
            return self._say(inside.join(CALL))
        self._space, self._called = [], True
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
        self.found = ""
        """The string that ended the text; empty before its end."""

    def feed(self, text: str) -> str:
        """What may be told by now."""
        if self.found or not self._marks:
            return "" if self.found else text
        self._held += text
        places = [(at, len(mark), mark) for mark in self._marks if (at := self._held.find(mark)) >= 0]
        if places:
            at, _, self.found = min(places)
            ready, self._held = self._held[:at], ""
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
    for kind, run in groupby(parts, key=lambda part: part.kind if isinstance(part, Words) else None):
        if kind is None:
            made += run
        else:
            made.append(Words("".join(part.text for part in run if isinstance(part, Words)), kind))
    return made
