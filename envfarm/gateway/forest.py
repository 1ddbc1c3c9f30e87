"""The message forest: which tokens stand for which messages.

Pure; one per session. A prefix tree whose edges are messages, kept as a table of prefix identities: a node is a call, reached by the
messages of its prompt and, behind its answer, by one message more. Memory is four bytes a token, eight a logprob and the answers'
text, each kept once however many calls go on from it.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from envfarm.core.image import BlobRef
from envfarm.core.sampled import DriftReason, DriftSpan, FinishReason, SampledCall, WeightChange
from envfarm.gateway.conversation import Asked, Message, link


class Known(NamedTuple):
    """The longest prefix of a request whose tokens are known."""

    call: int | None
    """The call behind whose answer the new messages stand; None where nothing is known."""
    consumed: int
    """How many of the request's messages the prefix holds."""
    prompt: int | None = None
    """A call that was asked the very same: its prompt is this one's."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine sampled for one call."""

    ids: Sequence[int]
    logprobs: Sequence[float]
    finish_reason: FinishReason
    engine: str
    weight_version: str | None = None
    weight_changes: tuple[WeightChange, ...] = ()
    experts: BlobRef | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens of one call's prompt."""

    parent: int | None
    added: array[int]
    """Behind the parent's last token."""
    length: int
    """The parent's tokens included."""
    drift: DriftSpan | None = None
    """Within `added`."""


@dataclass(frozen=True, slots=True)
class _Node:
    index: int
    prompt: Prompt
    ids: array[int]
    logprobs: array[float]
    made: Completion
    """Without its ids and logprobs, which are held tighter here."""
    dialect: str
    text: str

    @property
    def length(self) -> int:
        return self.prompt.length + len(self.ids)


class Forest:
    """The calls of one episode."""

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self._behind_answers: dict[bytes, int] = {}
        self._at_prompts: dict[bytes, int] = {}
        self._delivered: set[int] = set()

    def __len__(self) -> int:
        return len(self._nodes)

    def known(self, asked: Asked) -> Known:
        """The longest known prefix. Of several calls that gave the same answer to the same messages the last one counts."""
        links = asked.links
        prompt = self._at_prompts.get(links[-1])
        for consumed in range(len(links) - 1, 0, -1):
            call = self._behind_answers.get(links[consumed])
            if call is not None:
                return Known(call, consumed, prompt)
        return Known(None, 0, prompt)

    def drift_reason(self) -> DriftReason:
        """What an assistant's words are that stand in a request and in no known prefix of it."""
        return "changed" if self._nodes else "foreign"

    def prompt(self, call: int) -> Prompt:
        """The prompt of a call."""
        return self._nodes[call].prompt

    def length(self, call: int | None) -> int:
        """Tokens up to the end of a call's completion."""
        return 0 if call is None else self._nodes[call].length

    def last_id(self, call: int) -> int | None:
        """The last token that a call sampled."""
        ids = self._nodes[call].ids
        return ids[-1] if ids else None

    def ids(self, call: int | None) -> array[int]:
        """All tokens up to the end of a call's completion."""
        every = array("i")
        for node in self._path(call):
            every.extend(node.prompt.added)
            every.extend(node.ids)
        return every

    def add(self, asked: Asked, prompt: Prompt, completion: Completion, answer: Message, *, dialect: str) -> int:
        """Keep a call that ended; its index."""
        index = len(self._nodes)
        ids, logprobs = array("i", completion.ids), array("d", completion.logprobs)
        self._nodes.append(_Node(index, prompt, ids, logprobs, replace(completion, ids=(), logprobs=()), dialect, answer.text))
        at_prompt = asked.links[-1]
        self._at_prompts[at_prompt] = index
        self._behind_answers[link(at_prompt, answer)] = index
        return index

    def deliver(self, call: int) -> None:
        """An agent was sent a call's whole answer."""
        self._delivered.add(call)

    def calls(self) -> tuple[SampledCall, ...]:
        """Every call, as a trainer receives it."""
        return tuple(_call(node, delivered=node.index in self._delivered) for node in self._nodes)

    def _path(self, call: int | None) -> list[_Node]:
        path = []
        while call is not None:
            path.append(self._nodes[call])
            call = path[-1].prompt.parent
        return path[::-1]


def _call(node: _Node, *, delivered: bool) -> SampledCall:
    return SampledCall(
        index=node.index,
        parent=node.prompt.parent,
        prompt_length=node.prompt.length,
        added_ids=tuple(node.prompt.added),
        completion_ids=tuple(node.ids),
        logprobs=tuple(node.logprobs),
        drift=() if node.prompt.drift is None else (node.prompt.drift,),
        finish_reason=node.made.finish_reason,
        engine=node.made.engine,
        weight_version=node.made.weight_version,
        weight_changes=node.made.weight_changes,
        experts=node.made.experts,
        dialect=node.dialect,
        text=node.text,
        delivered=delivered,
    )
