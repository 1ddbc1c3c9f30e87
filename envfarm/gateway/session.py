"""One episode's side of the gateway: its forest, its limits, its calls under way.

Made by `Gateway.open`. It flies each call: prompt, engine, watch, answer, forest. What fails is recorded once, for the runner's verdict.
"""

import asyncio
import contextvars
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

from envfarm.core.errors import ContextExhausted, EnvfarmError, GatewayError, PolicyError, StoreError, boundary
from envfarm.core.ids import EpisodeId
from envfarm.core.image import BlobRef
from envfarm.core.observing import Observer
from envfarm.core.program import Allowance
from envfarm.core.protocols import BlobStore, Clock
from envfarm.core.sampled import CallFailure, Sampled
from envfarm.gateway import limits, problems, prompts, replies
from envfarm.gateway.conversation import Asked
from envfarm.gateway.dialects.dialect import Answered, Head
from envfarm.gateway.engines.engine import Engine, Finished, Order, Watch
from envfarm.gateway.flights import Flight, Flights
from envfarm.gateway.forest import Completion, Forest, Prompt
from envfarm.gateway.intake import Crowded, Intake, Room, Upload
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.outages import Outages
from envfarm.gateway.problems import Refused
from envfarm.gateway.purse import Purse
from envfarm.gateway.replies import Called, Part, Stops, TaggedReply
from envfarm.gateway.routing import Routing
from envfarm.gateway.tokenizer import ChatTokenizer, TemplateRefused, last_words

FAILURES_KEPT = 8
SOON_TOLD_TOKENS = 1 << 16
"""So many are told in some hundredths of a second."""
MODEL = "policy"
"""What agents are told that the model is called; they may call it what they like."""
CALL_ID_CHARS = 9
"""Some models' templates take no other length."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shared:
    """What all sessions of a gateway share."""

    tokenizer: ChatTokenizer
    routing: Routing
    clock: Clock
    blobs: BlobStore | None
    """For routed experts; without it they are dropped."""
    options: GatewayOptions
    workers: Executor
    """For what would hold up the event loop. Few threads: nothing else waits for them."""
    room: Room
    """For requests that are being read."""
    observer: Observer


class Session:
    """Answers an episode's agent."""

    def __init__(self, episode: EpisodeId, allowance: Allowance, shared: Shared, *, salt: str = "") -> None:
        """`salt` goes into the names of answers, so that an episode's second session never has those of its first."""
        self._salt = salt
        self.episode = episode
        self._allowance = allowance
        self._shared = shared
        self._options = shared.options
        self._forest = Forest()
        self._flights = Flights(shared.options.kept_answers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = 0
        self._purse = Purse(allowance.calls, allowance.tokens)
        self._kept_tokens = 0
        self._failures: deque[CallFailure] = deque(maxlen=FAILURES_KEPT)
        self._failed_calls = 0
        self._failed_tokens = 0
        self._counts = 0
        self._apart = asyncio.Lock()
        self._intake = Intake(shared.room)
        # A call is part of what its episode was doing when it got its model, whoever's connection it comes by.
        self._around = contextvars.copy_context()
        self._outages = Outages()
        self._spent: Literal["", "tokens", "context", "turns"] = ""
        self._last: Literal["", "answered", "failed", "context"] = ""
        self.used_up = asyncio.Event()
        """Set when no call will be answered any more: a budget has refused one, or too many have failed."""
        self._closed = False

    def ask(self, asked: Asked, *, dialect: str, request: bytes) -> Flight:
        """The call for a request: the one that is under way or was answered for an equal one (`request` is its digest), or a new one.

        Raises `Refused` when no call may begin.
        """
        if self._closed:
            raise Refused("unauthorized", "the episode is over")
        known = self._flights.find(request)
        if known is not None:
            return known
        self._outages.asked(self._shared.clock.monotonic())
        if self._given_up:
            raise Refused("unavailable", f"{self._failed_calls} calls of this episode have failed")
        try:
            self._check_budgets()
        except Refused as e:
            self._use_up(e)
            raise
        if len(self._flights) >= self._options.calls_at_once:
            raise Refused("busy", f"{self._options.calls_at_once} calls of this episode are under way")
        flight = Flight(dialect=dialect, number=self._begun)
        self._begun += 1
        self._flights.started(request, flight)
        flying = self._fly(flight, asked, request)
        task = asyncio.create_task(flying, name=f"call {flight.number} of {self.episode}", context=self._around.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return flight

    def delivered(self, flight: Flight) -> None:
        """The agent was sent the whole answer of a call."""
        if flight.call is not None:
            self._forest.deliver(flight.call)

    async def count(self, asked: Asked) -> int:
        """How many tokens a request's prompt has. Raises as a call does: `Refused`, and `ContextExhausted` for what is far too long."""
        if self._closed:
            raise Refused("unauthorized", "the episode is over")
        if self._counts >= self._options.counts:
            raise Refused("budget", f"the episode has had the {self._options.counts} prompts counted that it may")
        self._counts += 1
        return (await self._prompt(asked)).length

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Upload]:
        """A request comes in and is read. Where others leave it no room that is the farm's failure, as an engine's would be."""
        try:
            async with self._intake.request() as upload:
                yield upload
        except Crowded as e:
            self._failed(GatewayError(str(e)))
            raise

    def cut_off(self, seconds: float, why: str) -> None:
        """See `ModelSession.cut_off`. It is no call and counts as none; how often it is told of one outage makes no difference."""
        failure = _told(GatewayError(f"the program was cut off from the gateway: {why}"))
        if not self._failures or self._failures[-1] != failure:
            self._failures.append(failure)
        self._was_out(self._shared.clock.monotonic() - seconds)

    async def apart(self, work: Callable[[], T], *, large: bool) -> T:
        """Work that grows with a request: of a large one beside the event loop, which all episodes share, and one after the other."""
        if not large:
            return work()
        async with self._apart:
            return await asyncio.get_running_loop().run_in_executor(self._shared.workers, work)

    def sampled(self) -> Sampled:
        """All that was sampled by now."""
        return Sampled(
            episode=self.episode,
            calls=self._forest.calls(),
            failures=tuple(self._failures),
            failed_calls=self._failed_calls,
            outage_s=self.outage_s,
            spent=self._spent,
            last="failed" if self._given_up else self._last,
        )

    @property
    def outage_s(self) -> float:
        """For how long the engines could not be had: see `Outages`."""
        return self._outages.seconds(self._shared.clock.monotonic())

    @property
    def _given_up(self) -> bool:
        """Whether too much came to nothing, which no budget counts."""
        tokens = self._allowance.tokens
        return self._failed_calls >= self._options.failures or (tokens is not None and 0 < tokens <= self._failed_tokens)

    async def close(self) -> Sampled:
        """Abort what is under way, answer nothing more, and give what was sampled."""
        self._closed = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        # Before the tasks end: one that had not begun yet would never tell those who wait for it.
        self._flights.abandon(Refused("unauthorized", "the episode is over"))
        await asyncio.gather(*tasks, return_exceptions=True)
        self._shared.routing.forget(self.episode)
        if self._kept_tokens <= SOON_TOLD_TOKENS:
            return self.sampled()
        return await asyncio.to_thread(self.sampled)  # not by the workers: a hostile episode's requests may keep them for long

    async def _fly(self, flight: Flight, asked: Asked, request: bytes) -> None:
        try:
            with boundary(GatewayError, f"call {flight.number}"):
                try:
                    with self._shared.observer.span("gateway call", dialect=flight.dialect):
                        answered = await self._answer(flight, asked)
                    self._last = "answered"
                    flight.ended(answered)
                except Refused as e:
                    self._refuse(flight, e)
        except EnvfarmError as e:
            self._record(flight, e)
        finally:
            self._flights.landed(request, flight)

    def _check_budgets(self) -> None:
        self._purse.check()
        if self._kept_tokens >= self._options.kept_tokens:
            raise Refused("budget", "the episode has said all that is kept of one", used_up="tokens")

    def _refuse(self, flight: Flight, refused: Refused) -> None:
        if refused.used_up:
            self._use_up(refused)
        else:
            self._purse.spend()
        flight.failed(refused)

    def _use_up(self, refused: Refused) -> None:
        self._spent = refused.used_up
        self.used_up.set()

    def _record(self, flight: Flight, failure: EnvfarmError) -> None:
        if isinstance(failure, ContextExhausted):
            self._purse.spend()
            self._spent = self._last = "context"
        else:
            self._failed(failure, flight.asked_s, flying=1)
        flight.failed(failure)

    def _failed(self, failure: EnvfarmError, since_s: float | None = None, *, flying: int = 0) -> None:
        """A call has failed for which an engine had been asked since then; `flying` is 1 where it is still among the flights."""
        self._failures.append(_told(failure))
        self._failed_calls += 1
        self._was_out(since_s, flying=flying)
        if self._given_up:
            self.used_up.set()

    def _was_out(self, since_s: float | None, *, flying: int = 0) -> None:
        now_s = self._shared.clock.monotonic()
        self._last = "failed"
        self._outages.failed(now_s if since_s is None else since_s, now_s, alone=len(self._flights) == flying)

    async def _answer(self, flight: Flight, asked: Asked) -> Answered:
        prompt = await self._prompt(asked)
        how = limits.sampling(self._allowance, asked.wishes, prompt_tokens=prompt.length, call=flight.number)
        taken = await self._purse.take(how.max_tokens)
        sampled: int | None = None
        try:
            head = self._head(flight, asked.model, prompt)
            flight.began(head)
            order = Order(head.answer_id, (self._forest.ids(prompt.parent) + prompt.added).tolist(), replace(how, max_tokens=taken))
            flight.asked_s = self._shared.clock.monotonic()
            watch, finished, engine, reading = await self._try(flight, order)
            experts = await self._keep(finished.experts)
            sampled = len(watch.ids)
        finally:
            self._purse.settle(taken, sampled)
        first, *changes = watch.weights
        completion = Completion(watch.ids, watch.logprobs, finished.reason, engine.spec.name, first.weight_version, tuple(changes), experts)
        parts = tuple(replies.blocks(reading.parts))
        flight.call = self._forest.add(asked, prompt, completion, replies.answer(parts), dialect=flight.dialect)
        self._kept_tokens += len(prompt.added) + sampled
        # Text that was cut has the end that was asked for, even if it came with the last token that there was room for.
        return Answered(head, parts, "stop" if reading.stopped_by else finished.reason, sampled, reading.stopped_by)

    async def _prompt(self, asked: Asked) -> Prompt:
        return await self.apart(partial(self._build, asked), large=asked.large)

    def _build(self, asked: Asked) -> Prompt:
        with problems.of_the_request("no prompt can be made of these messages"):
            try:
                return prompts.build(self._forest, self._shared.tokenizer, asked, self._allowance.context_tokens)
            except TemplateRefused as e:
                raise Refused("invalid", f"the model's chat template cannot say these messages: {e}") from e

    def _head(self, flight: Flight, model: str, prompt: Prompt) -> Head:
        answer_id = hashlib.sha256(f"{self.episode}\0{self._salt}\0{flight.number}".encode()).hexdigest()[:24]
        created = int(self._shared.clock.now().timestamp())
        return Head(answer_id, model or MODEL, created, prompt.length)

    async def _try(self, flight: Flight, order: Order) -> tuple[Watch, Finished, Engine, "_Reading"]:
        """Ask the episode's engine and, as long as none has sampled anything, further ones."""
        routing, clock = self._shared.routing, self._shared.clock
        tried: list[str] = []
        while True:
            engine = routing.choose(self.episode, clock.monotonic(), without=tried)
            tried.append(engine.spec.name)
            watch = Watch(self._shared.tokenizer, order)
            self._shared.observer.shift("engine calls", 1, engine=engine.spec.name)
            try:
                finished, reading = await self._sample(flight, engine, replace(order, request_id=f"{order.request_id}-{len(tried)}"), watch)
            except PolicyError:
                routing.failed(engine, clock.monotonic())
                self._failed_tokens += len(watch.ids)
                if watch.ids or len(tried) >= min(self._options.tries, len(routing.engines)):
                    # What has been sampled and told cannot be taken back, so that only the agent can ask again.
                    raise
            else:
                routing.succeeded(engine)
                return watch, finished, engine, reading
            finally:
                self._shared.observer.shift("engine calls", -1, engine=engine.spec.name)

    async def _sample(self, flight: Flight, engine: Engine, order: Order, watch: Watch) -> tuple[Finished, "_Reading"]:
        thinks_first = replies.opens_reasoning(last_words(self._shared.tokenizer, order.prompt_ids))
        reading = _Reading(order, TaggedReply(thinks_first=thinks_first))
        finished: Finished | None = None
        with boundary(PolicyError, f"engine {engine.spec.name}"):
            stream = engine.sample(order)
            async with asyncio.timeout(self._options.patience.whole_s), aclosing(stream):  # type: ignore[type-var]  # adapters are generators
                async for piece in stream:
                    # Read on behind the end: an answer that is left unread costs the engine's connection.
                    if isinstance(piece, Finished):
                        finished = piece
                    else:
                        flight.told(reading.feed(watch.tokens(piece)))
            if finished is None:
                raise PolicyError(f"engine {engine.spec.name} ended its answer without a reason")
            flight.told(reading.end(watch.finished(finished)))
        return finished, reading

    async def _keep(self, experts: bytes | None) -> BlobRef | None:
        if experts is None or self._shared.blobs is None:
            return None
        with boundary(StoreError, "routed experts"):
            return await self._shared.blobs.put(experts)


def _told(failure: EnvfarmError) -> CallFailure:
    return CallFailure(cause=failure.policy.cause, detail=str(failure)[:1000])


class _Reading:
    """Text as parts, with the calls' ids."""

    def __init__(self, order: Order, reader: TaggedReply) -> None:
        self._reader = reader
        self._stops = Stops(order.sampling.stop)
        self._answer_id = order.request_id
        self._calls = 0
        self.parts: list[Part] = []

    @property
    def stopped_by(self) -> str:
        """The agent's string that ended the text; empty where none did."""
        return self._stops.found

    def feed(self, text: str) -> list[Part]:
        return self._named(self._reader.feed(self._stops.feed(text)))

    def end(self, text: str) -> list[Part]:
        rest = self._stops.feed(text)
        return self._named(self._reader.feed(rest + self._stops.end()) + self._reader.end())

    def _named(self, parts: list[Part]) -> list[Part]:
        named = [self._name(p) if isinstance(p, Called) else p for p in parts]
        self.parts += named
        return named

    def _name(self, call: Called) -> Called:
        self._calls += 1
        call_id = hashlib.sha256(f"{self._answer_id}\0{self._calls}".encode()).hexdigest()[:CALL_ID_CHARS]
        return replace(call, call_id=call_id)
