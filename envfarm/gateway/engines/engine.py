"""What an engine is to the gateway: token ids in, token ids with their logprobs out.

The contract, and the watch that nothing passes which an engine made up. Pure; the adapters beside it do the calls.
"""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import PolicyError
from envfarm.core.sampled import FinishReason, WeightChange
from envfarm.gateway.tokenizer import ChatTokenizer, TextStream

HIGHEST_LOGPROB = 1e-3
"""Engines compute in 16 bits and come out a little above zero."""
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample, as the farm decided."""

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """One call."""

    request_id: str
    prompt_ids: Sequence[int]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Tokens:
    """Some of what was sampled, in order."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    weight_version: str | None = None
    """Of the weights that sampled them."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a completion."""

    reason: FinishReason
    text: str | None = None
    """What the engine says that its ids decode to, where it does."""
    experts: bytes | None = None


class Engine(Protocol):
    """One inference engine. Safe for any number of calls at once."""

    @property
    def spec(self) -> EngineSpec:
        """What it was made of."""
        ...

    def sample(self, order: Order) -> AsyncIterator[Tokens | Finished]:
        """Sample one completion: any number of `Tokens`, then `Finished`. Closing the iterator aborts the call.

        Raises `ContextExhausted` when the prompt is too long for the engine, `PolicyError` for everything else that it does wrong.
        """
        ...


class Watch:
    """Looks at what an engine samples for one order. What does not fit together is a `PolicyError` and nothing of it is kept."""

    def __init__(self, tokenizer: ChatTokenizer, order: Order) -> None:
        self._size = tokenizer.vocabulary_size
        self._text = TextStream(tokenizer)
        self._order = order
        self._said: list[str] = []
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.weights: list[WeightChange] = []
        """The first ones' place is 0."""

    def tokens(self, tokens: Tokens) -> str:
        """Check and keep some tokens; the text that they complete."""
        if len(tokens.ids) != len(tokens.logprobs):
            raise PolicyError(f"the engine gave {len(tokens.ids)} ids and {len(tokens.logprobs)} logprobs")
        if len(self.ids) + len(tokens.ids) > self._order.sampling.max_tokens:
            raise PolicyError(f"the engine samples more than the {self._order.sampling.max_tokens} tokens that it was asked for")
        for token, logprob in zip(tokens.ids, tokens.logprobs, strict=True):
            if not 0 <= token < self._size:
                raise PolicyError(f"the engine sampled {token}, which is no token of this model")
            if not (math.isfinite(logprob) and logprob <= HIGHEST_LOGPROB):
                raise PolicyError(f"the engine gave {logprob} as a logprob")
        if tokens.ids and (not self.weights or self.weights[-1].weight_version != tokens.weight_version):
            self.weights.append(WeightChange(at=len(self.ids), weight_version=tokens.weight_version))
        self.ids += tokens.ids
        self.logprobs += tokens.logprobs
        try:
            text = self._text.feed(tokens.ids)
        except ValueError as e:
            raise PolicyError(f"the engine sampled what is no token: {e}") from e
        self._said.append(text)
        return text

    def finished(self, finished: Finished) -> str:
        """Check the whole; the last piece of its text."""
        if not self.ids:
            raise PolicyError("the engine sampled nothing")
        last = self._text.end()
        self._said.append(last)
        if finished.text is not None and not _agree("".join(self._said), finished.text, self._order.sampling.stop):
            raise PolicyError("the engine's text is not what its ids decode to")
        return last


def _agree(decoded: str, told: str, stop: Sequence[str]) -> bool:
    # Engines differ in what they tell of a last character that never came to its end, and cut the string that stopped them.
    decoded, told = decoded.rstrip(UNFINISHED), told.rstrip(UNFINISHED)
    return decoded == told or any(decoded.startswith(told + mark) for mark in stop)
