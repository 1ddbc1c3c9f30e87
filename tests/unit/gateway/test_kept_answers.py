"""What a session needs to keep its answers, each sampled a token at a time."""

import tracemalloc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from envfarm.controller.system_clock import SystemClock
from envfarm.core.engine import EngineSpec
from envfarm.core.ids import EpisodeId
from envfarm.core.observing import UNOBSERVED
from envfarm.core.program import Allowance
from envfarm.gateway.conversation import Asked, Message
from envfarm.gateway.engines.engine import Finished, Order, Tokens
from envfarm.gateway.flights import Flight
from envfarm.gateway.intake import Room
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.replies import Words
from envfarm.gateway.routing import Routing
from envfarm.gateway.session import Session, Shared
from envfarm.testing.small_tokenizer import small_tokenizer

TOKENIZER = small_tokenizer()
WORDS = "alpha beta gamma " * 100
IDS = TOKENIZER.encode_text(WORDS)


class Dribble:
    """An engine that tells each token by itself."""

    spec = EngineSpec(name="dribble", kind="vllm", url="http://nowhere")

    async def sample(self, order: Order) -> AsyncIterator[Tokens | Finished]:  # noqa: ARG002 - the contract's
        for n, token in enumerate(IDS):
            yield Tokens((token,), (-0.1 - n / 1e6,))
        yield Finished("stop")


async def answered(session: Session, number: int) -> Flight:
    flight = session.ask(Asked((Message("user", f"q{number}"),)), dialect="d", request=bytes([number]))
    await flight.whole()
    return flight


async def test_a_kept_answer_takes_what_the_documentation_says() -> None:
    options = GatewayOptions()
    with ThreadPoolExecutor(1) as workers:
        shared = Shared(TOKENIZER, Routing([Dribble()]), SystemClock(), None, options, workers, Room(1, 1), UNOBSERVED)
        allowed = Allowance(calls=99, context_tokens=10**6, completion_tokens=10**5)
        session = Session(EpisodeId("e"), allowed, shared)
        flight = await answered(session, 0)
        assert flight.parts == [Words(WORDS)] == [*(await flight.whole()).parts]
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(1, 9):
                await answered(session, number)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 8 * (6_000 + len(IDS) * 12 + len(WORDS))
