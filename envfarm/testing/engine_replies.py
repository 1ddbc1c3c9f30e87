"""The scripted samples of a simulated engine, and the ledger of every id that it sampled.

Nothing here uses HTTP: see `engine_simulator`. Texts are split into tokens at random, even within characters, so that the same text rarely
has the tokens that a tokenizer would choose: code that tokenizes a text again is detected.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from envfarm.core.sampled import FinishReason
from envfarm.gateway.hugging_face import HuggingFaceTokenizer
from envfarm.gateway.tokenizer import decode

Fault = Literal[
    "",
    "status",
    "context",
    "hang_up",
    "garbage",
    "no_end",
    "lingers",
    "abort",
    "silent",
    "endless",
    "oversized",
    "packed",
    "no_logprobs",
    "short_logprobs",
    "bad_logprobs",
    "foreign_ids",
    "lying_text",
    "other_prompt",
]
END = "<|im_end|>"


@dataclass(frozen=True)
class Reply:
    """The reply to one call."""

    text: str = ""
    ids: tuple[int, ...] | None = None
    """Used instead of the text's ids; includes the last token."""
    fault: Fault = ""
    delay_s: float = 0.0
    """Delay before the first token."""
    experts: bytes | None = None
    weight_version: str = "1"
    reload: tuple[int, str] | None = None
    """From how many tokens on it is other weights that sample, and their version."""


@dataclass(frozen=True)
class Sampled:
    """A call as seen by the engine."""

    request_id: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    text: str
    reply: Reply
    max_tokens: int
    temperature: float
    top_p: float


@dataclass(frozen=True)
class Ordered:
    """A call's request, in terms of either interface."""

    request_id: str
    prompt_ids: tuple[int, ...]
    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]


Script = Callable[[Ordered, int], Reply]
"""From a request and its number, counted from 0, to the reply. Called in the server's thread."""


def lines(*replies: Reply | str) -> Script:
    """A script of replies in order; the last one is repeated."""
    made = [Reply(r) if isinstance(r, str) else r for r in replies]
    return lambda _, number: made[min(number, len(made) - 1)]


@dataclass
class Ledger:
    """All calls in the order of their start, including faulty ones."""

    entries: list[Sampled] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def sound(self) -> list[Sampled]:
        """The calls that were answered correctly."""
        with self.lock:
            return [e for e in self.entries if not e.reply.fault]


class Sampler:
    """Samples replies. `seed` decides how texts are split and what their logprobs are."""

    def __init__(self, tokenizer: HuggingFaceTokenizer, script: Script, *, seed: int = 0) -> None:
        self.ledger = Ledger()
        self.script = script
        self.tokenizer = tokenizer
        self._random = random.Random(seed)  # noqa: S311 - not a secret
        self._number = 0

    def sample(self, order: Ordered) -> Sampled:
        """Sample one call and record it."""
        with self.ledger.lock:
            number, self._number = self._number, self._number + 1
            reply = self.script(order, number)
            ids = reply.ids if reply.ids is not None else (*self.rough(reply.text), self.tokenizer.added_id(END))
            ids, text, finish = self._cut(ids, order)
            logprobs = tuple(-self._random.expovariate(1.0) for _ in ids)
            made = Sampled(
                order.request_id, order.prompt_ids, ids, logprobs, finish, text, reply, order.max_tokens, order.temperature, order.top_p
            )
            self.ledger.entries.append(made)
            return made

    def rough(self, text: str) -> list[int]:
        """Ids that decode to the text, rarely those that the tokenizer would choose."""
        ids: list[int] = []
        while text:
            marked = next((t for t in ("<tool_call>", "</tool_call>", "<think>", "</think>") if text.startswith(t)), "")
            if marked and self._random.random() < 0.5:
                ids.append(self.tokenizer.added_id(marked))
                text = text[len(marked) :]
                continue
            size = self._random.randint(1, 7)
            piece, text = text[:size], text[size:]
            if self._random.random() < 0.4:
                ids += [self._byte_ids[b] for b in piece.encode()]
            else:
                ids += self.tokenizer.encode_text(piece)
        return ids

    def pieces(self, made: Sampled) -> list[int]:
        """Random sizes of the pieces in which a call's tokens are sent. One ends where the weights change."""
        count = len(made.completion_ids)
        change = min(made.reply.reload[0], count) if made.reply.reload else 0
        sizes: list[int] = []
        with self.ledger.lock:
            while (at := sum(sizes)) < count:
                sizes.append(min(self._random.randint(1, 6), (change if at < change else count) - at))
        return sizes

    @property
    def _byte_ids(self) -> dict[int, int]:
        if not hasattr(self, "_bytes"):
            every = range(self.tokenizer.vocabulary_size)
            self._bytes = {b[0]: token for token in every if len(b := self.tokenizer.token_bytes(token)) == 1}
        return self._bytes

    def _cut(self, ids: Sequence[int], order: Ordered) -> tuple[tuple[int, ...], str, FinishReason]:
        cut = tuple(ids[: order.max_tokens])
        if order.stop:
            for size in range(1, len(cut) + 1):
                text = decode(self.tokenizer, cut[:size])
                places = [at for mark in order.stop if (at := text.find(mark)) >= 0]
                if places:
                    return cut[:size], text[: min(places)], "stop"
        return cut, decode(self.tokenizer, cut), "stop" if len(cut) == len(ids) else "length"
