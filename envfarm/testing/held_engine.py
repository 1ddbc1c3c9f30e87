"""A policy engine in memory whose calls wait until the test says how each ends, for tests of the order of events.

It implements `Engine`. For tests of HTTP, or of how text is split into tokens, use `engine_simulator`.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import PolicyError
from envfarm.gateway.engines.engine import EnginePressure, Finished, Order, Tokens
from envfarm.gateway.hugging_face import HuggingFaceTokenizer
from envfarm.testing.engine_replies import END


@dataclass
class HeldCall:
    """A waiting call."""

    order: Order
    _end: asyncio.Future[str] = field(default_factory=asyncio.Future)

    def answer(self, text: str) -> None:
        """Answer with this text, as far as the order's token limit allows."""
        self._end.set_result(text)

    def fail(self, error: Exception | None = None) -> None:
        """Fail."""
        self._end.set_exception(error or PolicyError("the engine is away"))

    async def end(self) -> str:
        """Wait for the text of the answer."""
        return await self._end


class HeldEngine:
    """One engine."""

    def __init__(self, tokenizer: HuggingFaceTokenizer, name: str = "held") -> None:
        self.spec = EngineSpec(name=name, kind="vllm", url="http://nowhere")
        self.calls: list[HeldCall] = []
        self._tokenizer = tokenizer
        self._asked = asyncio.Event()

    async def call(self, number: int) -> HeldCall:
        """Wait for the call with this number, counted from 0."""
        while len(self.calls) <= number:
            self._asked.clear()
            await self._asked.wait()
        return self.calls[number]

    async def sample(self, order: Order) -> AsyncIterator[Tokens | Finished]:
        """See `Engine.sample`."""
        held = HeldCall(order)
        self.calls.append(held)
        self._asked.set()
        whole = (*self._tokenizer.encode_text(await held.end()), self._tokenizer.added_id(END))
        ids = whole[: order.sampling.max_tokens]
        yield Tokens(ids, (-0.5,) * len(ids))
        yield Finished("stop" if len(ids) == len(whole) else "length")

    async def pressure(self) -> EnginePressure:
        """See `Engine.pressure`."""
        return EnginePressure(running=len(self.calls))
