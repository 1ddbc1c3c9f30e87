"""What counts in an episode's budgets, and what only waits: with an engine whose calls end when the test says so."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import pytest

from envfarm.core.errors import ContextExhausted, PolicyError
from envfarm.core.ids import EpisodeId
from envfarm.core.observing import Fact, Span, SpanName
from envfarm.core.program import Allowance
from envfarm.gateway.conversation import Asked, Message
from envfarm.gateway.engines.engine import Finished, Order, Tokens
from envfarm.gateway.flights import Flight
from envfarm.gateway.intake import Room
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.problems import Refused
from envfarm.gateway.routing import Routing
from envfarm.gateway.session import Session, Shared
from envfarm.telemetry.prometheus import PrometheusObserver, page_of
from envfarm.testing.factories import HeldClock
from envfarm.testing.held_engine import HeldEngine
from envfarm.testing.small_tokenizer import small_tokenizer

TOKENIZER = small_tokenizer()
doing: ContextVar[str] = ContextVar("doing", default="")


@dataclass
class Table:
    """A session and its engine."""

    allowance: Allowance
    options: GatewayOptions = field(default_factory=GatewayOptions)
    clock: HeldClock = field(default_factory=HeldClock)
    engine: HeldEngine = field(default_factory=lambda: HeldEngine(TOKENIZER))
    observer: PrometheusObserver = field(default_factory=PrometheusObserver)
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def __post_init__(self) -> None:
        shared = Shared(
            TOKENIZER,
            Routing([self.engine]),
            self.clock,
            None,
            self.options,
            workers=self.workers,
            room=Room(1, 1),
            observer=self.observer,
        )
        self.session = Session(EpisodeId("e"), self.allowance, shared)
        self._asked = 0

    def ask(self, words: str = "hi") -> Flight:
        """A request unlike all before it."""
        self._asked += 1
        return self.session.ask(Asked((Message("user", words),)), dialect="d", request=str(self._asked).encode())

    async def answered(self, words: str = "hi") -> int:
        """A call to its end; how many tokens were sampled."""
        number = len(self.engine.calls)
        flight = self.ask(words)
        (await self.engine.call(number)).answer("Yes.")
        return (await flight.whole()).completion_tokens


async def until_waiting() -> None:
    """Let every task come as far as it can without being told anything."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_second_call_waits_for_the_tokens_that_the_first_one_holds_and_nothing_is_used_up() -> None:
    table = Table(Allowance(calls=9, tokens=8_192))
    first, second = table.ask("main"), table.ask("beside it")
    held = await table.engine.call(0)
    await until_waiting()
    assert (held.order.sampling.max_tokens, len(table.engine.calls)) == (8_192, 1)
    assert (second.over, table.session.used_up.is_set(), table.session.sampled().spent) == (False, False, "")
    held.answer("Yes.")
    spent = (await first.whole()).completion_tokens
    other = await table.engine.call(1)
    assert other.order.sampling.max_tokens == 8_192 - spent
    other.answer("Yes.")
    assert (await second.whole()).completion_tokens == spent
    assert not table.session.used_up.is_set()


async def test_calls_that_fit_beside_each_other_do_not_wait_and_never_go_beyond_the_budget() -> None:
    table = Table(Allowance(calls=9, tokens=25, completion_tokens=10))
    flights = [table.ask(str(n)) for n in range(4)]
    await table.engine.call(1)
    await until_waiting()
    assert len(table.engine.calls) == 2
    for number in range(3):
        (await table.engine.call(number)).answer("word " * 40)
    told = await asyncio.gather(*(f.whole() for f in flights), return_exceptions=True)
    assert [t.completion_tokens for t in told if not isinstance(t, BaseException)] == [10, 10, 5]
    assert isinstance(told[3], Refused)
    assert (table.session.used_up.is_set(), table.session.sampled().spent) == (True, "tokens")
    with pytest.raises(Refused, match="25 tokens are used up"):
        table.ask()


@pytest.mark.parametrize(("allowance", "budget"), [(Allowance(calls=0), "turns"), (Allowance(calls=9, tokens=0), "tokens")])
async def test_a_budget_of_nothing_is_used_up_at_the_first_call_and_nobodys_failure(allowance: Allowance, budget: str) -> None:
    table = Table(allowance)
    with pytest.raises(Refused, match=r"the 0 calls|0 tokens are used up"):
        table.ask()
    assert table.session.used_up.is_set()
    assert (table.session.sampled().spent, table.session.sampled().last) == (budget, "")


async def test_the_last_call_is_not_refused_to_one_while_another_one_still_runs() -> None:
    table = Table(Allowance(calls=2))
    await table.answered()
    first, second = table.ask("a"), table.ask("b")
    held = await table.engine.call(1)
    await until_waiting()
    assert (second.over, table.session.used_up.is_set()) == (False, False)
    held.answer("Yes.")
    await first.whole()
    with pytest.raises(Refused, match="the 2 calls"):
        await second.whole()
    assert table.session.sampled().spent == "turns"


async def test_an_episode_that_ends_while_a_call_waits_leaves_nobody_waiting() -> None:
    table = Table(Allowance(calls=9, tokens=100))
    flights = [table.ask("a"), table.ask("b")]
    await table.engine.call(0)
    await table.session.close()
    told = await asyncio.gather(*(f.whole() for f in flights), return_exceptions=True)
    assert [str(t) for t in told] == ["the episode is over"] * 2


async def test_what_an_agent_asks_in_vain_by_its_own_fault_counts_as_calls() -> None:
    table = Table(Allowance(calls=2, context_tokens=100))
    for _ in range(2):
        with pytest.raises(ContextExhausted):
            await table.ask("word " * 200).whole()
    with pytest.raises(Refused, match="the 2 calls"):
        table.ask()


async def test_what_the_engine_fails_at_counts_in_no_budget() -> None:
    table = Table(Allowance(calls=3, tokens=100))
    for _ in range(4):
        flight = table.ask()
        (await table.engine.call(len(table.engine.calls))).fail()
        with pytest.raises(PolicyError):
            await flight.whole()
    for _ in range(3):
        assert await table.answered()
    with pytest.raises(Refused, match="the 3 calls"):
        table.ask()
    sampled = table.session.sampled()
    assert (len(sampled.calls), sampled.failed_calls, sampled.spent, sampled.last) == (3, 4, "turns", "answered")


async def test_an_agent_that_asks_on_and_on_while_the_engine_fails_is_ended_and_nobody_knows_its_end() -> None:
    table = Table(Allowance(calls=9), GatewayOptions(failures=2))
    await table.answered()
    first = table.ask("which is answered after all")
    held = await table.engine.call(1)
    for number in (2, 3):
        flight = table.ask()
        (await table.engine.call(number)).fail()
        with pytest.raises(PolicyError):
            await flight.whole()
    with pytest.raises(Refused, match="2 calls of this episode have failed"):
        table.ask()
    held.answer("Yes.")
    await first.whole()
    assert table.session.used_up.is_set()
    assert (table.session.sampled().spent, table.session.sampled().last) == ("", "failed")


async def test_an_outage_is_what_calls_took_that_failed_and_the_wait_behind_them() -> None:
    table = Table(Allowance(calls=9))
    flight = table.ask()
    held = await table.engine.call(0)
    table.clock.seconds = 7.0
    assert table.session.outage_s == 0
    held.fail()
    with pytest.raises(PolicyError):
        await flight.whole()
    table.clock.seconds = 10.0
    assert table.session.outage_s == 10.0
    assert await table.answered()
    table.clock.seconds = 500.0
    assert table.session.sampled().outage_s == 10.0


async def test_what_a_program_would_have_done_that_was_cut_off_is_unknown_until_it_is_answered_again() -> None:
    table = Table(Allowance(calls=9), GatewayOptions(failures=2))
    await table.answered()
    for now_s, seconds in ((11.0, 1.0), (14.0, 4.0), (15.0, 5.0)):
        table.clock.seconds = now_s
        table.session.cut_off(seconds, "no more open files")
        assert (table.session.outage_s, table.session.sampled().last) == (seconds, "failed")
    sampled = table.session.sampled()
    assert [f.detail for f in sampled.failures] == ["the program was cut off from the gateway: no more open files"]
    assert (sampled.failed_calls, table.session.used_up.is_set()) == (0, False)
    table.clock.seconds = 18.0
    await table.answered()
    assert (table.session.outage_s, table.session.sampled().last) == (8.0, "answered")


async def test_a_wait_for_ones_own_calls_is_no_outage() -> None:
    table = Table(Allowance(calls=9, tokens=100))
    first, second = table.ask("long"), table.ask("behind it")
    held = await table.engine.call(0)
    table.clock.seconds = 50.0
    held.answer("Yes.")
    await first.whole()
    failing = await table.engine.call(1)
    table.clock.seconds = 51.0
    failing.fail()
    with pytest.raises(PolicyError):
        await second.whole()
    assert table.session.outage_s == 1.0


async def test_tokens_of_calls_that_failed_are_forgiven_once_over() -> None:
    class BreaksOff(HeldEngine):
        async def sample(self, order: Order) -> AsyncIterator[Tokens | Finished]:  # noqa: ARG002 - the contract's
            yield Tokens((TOKENIZER.encode_text("a")[0],) * 30, (-0.5,) * 30)
            raise PolicyError("broken off")

    table = Table(Allowance(calls=9, tokens=60, completion_tokens=50), engine=BreaksOff(TOKENIZER))
    for _ in range(2):
        with pytest.raises(PolicyError):
            await table.ask().whole()
    with pytest.raises(Refused, match="2 calls of this episode have failed"):
        table.ask()
    assert (table.session.used_up.is_set(), table.session.sampled().last) == (True, "failed")


async def test_calls_are_told_with_how_they_ended_and_what_runs_on_each_engine() -> None:
    table = Table(Allowance(calls=9))
    await table.answered()
    flight = table.ask()
    held = await table.engine.call(1)
    page = page_of(table.observer.tally())[0].decode()
    assert 'envfarm_engine_calls{engine="held"} 1.0' in page
    assert 'envfarm_gateway_call_seconds_count{dialect="d",error=""} 1.0' in page
    held.fail()
    with pytest.raises(PolicyError):
        await flight.whole()
    page = page_of(table.observer.tally())[0].decode()
    assert 'envfarm_engine_calls{engine="held"} 0.0' in page
    assert 'envfarm_gateway_call_seconds_count{dialect="d",error="PolicyError"} 1.0' in page


async def test_a_call_is_part_of_what_its_episode_did_when_it_got_its_model() -> None:
    told: list[str] = []

    class Told(PrometheusObserver):
        @contextmanager
        def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:
            told.append(doing.get())
            with super().span(name, within=within, **facts) as span:
                yield span

    doing.set("an episode")
    table = Table(Allowance(calls=9), observer=Told())
    doing.set("a connection")
    await table.answered()
    assert told == ["an episode"]
