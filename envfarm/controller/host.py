"""A host: holds one lease, takes what may start, plays it, and tells what it came to.

One per process: in the API's own, or in processes and actors on Ray that do nothing else. It decides nothing about groups and versions
(the queue does) nor about admission (`scheduling.admission` does). When its lease is gone it lets go of everything at once.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from math import ceil

from pydantic import Field

from envfarm.controller.attempts import Stage, attempt
from envfarm.controller.bells import CALLED_OFF, QUEUE, Bells, heard_in, results_of
from envfarm.controller.host_sizes import HostSizes, Offer
from envfarm.controller.host_tally import HostTally
from envfarm.controller.owners import Owners
from envfarm.controller.retention import Retention
from envfarm.controller.tenure import Tenure
from envfarm.core.errors import Cause, EnvfarmError, StoreError, boundary
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, TaskDigest, TenantId
from envfarm.core.observing import UNOBSERVED, Fact, Observer
from envfarm.core.outcome import Invalid, Outcome
from envfarm.core.protocols import Places
from envfarm.core.retry import backoff_s
from envfarm.core.rollout import Quota
from envfarm.core.storable import told
from envfarm.core.tally import NOTHING, Tally
from envfarm.core.task import Limits
from envfarm.core.usage import Bill, Grant
from envfarm.scheduling.admission import Admission, Amount, Bounds, Candidate, Pressure, Turn, admit
from envfarm.stores.access import SqlAccess
from envfarm.stores.episodes import Claim
from envfarm.stores.leases import HostLease, SqlLeases
from envfarm.stores.outcome_rows import encoded
from envfarm.stores.rollout_queue import EVERYTHING, Share, SqlRolloutQueue, Waiting
from envfarm.stores.rollout_results import BILLS_S, SqlRolloutResults
from envfarm.stores.rollouts import SqlRollouts

log = logging.getLogger(__name__)


class HostOptions(Frozen):
    """A host's bounds."""

    capacity: Amount
    """What all boxes of agents may need together."""
    lease_s: float = Field(default=15.0, gt=0)
    """How long the others wait before they take over. Renewed three times as often."""
    retries: int = Field(default=2, ge=0)
    """How often an episode that came to a retryable `Invalid` is tried again; then it is poisoned."""
    deaths: int = Field(default=10, ge=0)
    """How many deaths of its hosts an episode may live through; one more, and it is taken for their cause."""
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    look_ahead: int = Field(default=32, gt=0, le=256)
    """Waiting episodes that are looked at, per tenant and policy."""
    keep_s: float | None = Field(default=7 * 86400.0, ge=0)
    """How long a rollout that is over and acknowledged is kept; None leaves it to other hosts to forget them."""
    keep_bills_s: float = Field(default=BILLS_S, ge=0)
    """How long what attempts used is kept: longer than a year, for whoever bills by the year."""
    share: Share = EVERYTHING
    """Which episodes it plays."""
    patience_s: float = Field(default=300.0, ge=0)
    """How long what is too large for every host that lives waits for a larger one."""

    @property
    def beat_s(self) -> float:
        """How often it renews its lease, and keeps house."""
        return self.lease_s / 3


class HostView(Frozen):
    """How a host stands, for drivers and people."""

    name: str
    live: int
    """Episodes that it plays."""
    draining: bool


class _Drained(Exception):  # noqa: N818 - a state of the world
    """Nothing is played any more, and nothing may be."""


@dataclass(frozen=True, slots=True)
class HostParts:
    """What a host is made of."""

    queue: SqlRolloutQueue
    rollouts: SqlRollouts
    results: SqlRolloutResults
    leases: SqlLeases
    access: SqlAccess
    owners: Owners
    stage: Stage
    """Its runner's journal is a `FencedTrajectories` of this tenure."""
    tenure: Tenure
    bells: Bells
    limits: Callable[[TaskDigest], Awaitable[Limits]]
    """What a task's box may use. Raises `StoreError` for a task that is gone."""
    ended: Callable[[EpisodeId], None] = lambda _: None
    """Told when an attempt is over."""
    forget: Callable[[Sequence[EpisodeId]], Awaitable[None]] | None = None
    """Deletes the trajectories of rollouts that are forgotten."""
    collect: Callable[[], Awaitable[int]] | None = None
    """Removes what killed processes left, boxes and all: before anything is played, and when another host was found to be dead."""
    foresee: Callable[[Sequence[TaskDigest]], None] | None = None
    """Told for which tasks boxes will be asked for next, the soonest first."""
    places: Places | None = None
    """How many boxes a cluster has shown itself to have room for, where that is learnt."""
    observer: Observer = UNOBSERVED
    counted: Callable[[], Tally] = lambda: NOTHING
    """What was told the observer since this process began, where it counts that."""


@dataclass(slots=True)
class _Play:
    claim: Claim
    need: Amount
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    handed_over: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    bill: Bill = field(default_factory=Bill)

    @property
    def flow(self) -> tuple[str, str]:
        return (self.claim.tenant, self.claim.policy_name)


class Host:
    """Plays what is waiting, until it is stopped."""

    def __init__(self, parts: HostParts, options: HostOptions) -> None:
        self._parts = parts
        self._options = options
        self._plays: dict[EpisodeId, _Play] = {}
        # Counted as they begin and end: added up at each decision, thousands would take longer than what is decided.
        self._held: Counter[Amount] = Counter()
        self._flows: Counter[tuple[str, str]] = Counter()
        """By tenant and policy."""
        self._pressures: dict[tuple[str, str], Pressure] = {}
        self._limits: dict[TaskDigest, Limits] = {}
        self._turn = Turn()
        self._quotas: dict[TenantId, Quota] = {}
        """As of the last beat."""
        self._claiming = asyncio.Lock()
        """Held until what was claimed is played."""
        own = Offer(capacity=options.capacity, share=options.share)
        self._sizes = HostSizes(own, patience_s=options.patience_s, beat_s=options.beat_s)
        self._lease: HostLease | None = None
        self._tally = HostTally(parts.counted)
        self._name = ""
        self._draining = asyncio.Event()
        self._drain_by_s = float("inf")
        self._others_go_on = False
        self._others_went = asyncio.Event()
        self._others_went.set()  # before this one began, perhaps
        self.last: Admission | None = None
        """The last decision, for people."""

    @property
    def view(self) -> HostView:
        """How it stands."""
        return HostView(name=self._name, live=len(self._plays), draining=self._draining.is_set())

    async def run(self) -> None:
        """Play until this is cancelled or drained; then boxes are closed or left, and what is unfinished is another's.

        Raises `StoreError` at its start.
        """
        with self._parts.owners.hold() as name:
            self._name = name
            if self._parts.collect is not None:
                await self._parts.collect()
            try:
                await self._take(name)
                self._warn_of_its_size()
                await self._look_for_the_dead(name)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._hold(name))
                    tasks.create_task(self._beat())
                    tasks.create_task(self._pump())
                    tasks.create_task(self._mind_what_is_called_off())
                    tasks.create_task(self._collect_after_others())
                    tasks.create_task(self._forget_what_is_over())
            except* _Drained:
                pass
            finally:
                await self._let_go(to_others=self._others_go_on)
                if self._lease is not None:
                    with suppress(EnvfarmError):
                        await self._parts.leases.drop(self._lease, tally=self._tally.last())

    def drain(self, *, grace_s: float = float("inf"), others_go_on: bool = False) -> None:
        """Start nothing more; `run` ends with the last episode, or after `grace_s`, when what is still played is another's.

        With `others_go_on` its boxes are left to other hosts where they can adopt them.
        """
        self._others_go_on = others_go_on and (self._others_go_on or not self._draining.is_set())
        self._drain_by_s = min(self._drain_by_s, self._parts.tenure.now() + grace_s)
        self._draining.set()
        self._parts.bells.ring(QUEUE)

    async def _look_for_the_dead(self, me: str) -> None:
        # Of hosts on this machine a lock tells at once that they died; for others their lease has to lapse.
        for host in await self._parts.leases.hosts():
            if host != me and self._parts.owners.known_dead(host):
                await self._parts.leases.lapse(host)
        await self._parts.leases.take_over_lapsed()
        self._parts.owners.collect()  # also of those whose lease lapsed before anybody looked
        self._parts.bells.ring(QUEUE)

    async def _hold(self, name: str) -> None:
        """Renew the lease, beside all else: whatever a renewal waited for could outlast the lease."""
        while True:
            try:
                lease, asked_at, lease_s = self._lease, self._parts.tenure.now(), self._options.lease_s
                if lease is not None and await self._parts.leases.renew(lease, lease_s=lease_s, tally=self._tally.to_say()):
                    self._parts.tenure.granted(asked_at, lease_s)
                    self._tally.heard()
                else:
                    self._parts.observer.count("lease lost")
                    log.warning("the lease of host %s was taken: letting go of %d episodes", name, len(self._plays))
                    await self._let_go()
                    await self._take(name)
            except EnvfarmError as e:
                log.warning("the lease is not renewed: %s", e)
            await asyncio.sleep(self._options.beat_s)

    async def _beat(self) -> None:
        while True:
            try:
                await self._keep_house()
            except EnvfarmError as e:
                log.warning("the database does not answer: %s", e)
            await asyncio.sleep(self._options.beat_s)

    async def _take(self, name: str) -> None:
        options, asked_at = self._options, self._parts.tenure.now()
        self._lease = await self._parts.leases.take(name, lease_s=options.lease_s, offer=self._sizes.own.model_dump_json())
        self._parts.tenure.granted(asked_at, options.lease_s)
        self._tally.next_lease()
        self._quotas = await self._parts.access.quotas()

    def _warn_of_its_size(self) -> None:
        capacity, usual = self._options.capacity, _amount(Limits())
        if lacks := capacity.lacks(usual):
            figures = getattr(capacity, lacks), getattr(usual, lacks)
            log.warning("this host is too small for most tasks, and leaves them to larger ones: %s=%g, of %g", lacks, *figures)

    async def _keep_house(self) -> None:
        self._quotas = await self._parts.access.quotas()
        await self._tell_levels()
        if (await self._parts.rollouts.expire()).flying:
            self._parts.bells.ring(CALLED_OFF)
        await self._let_go_of_others()
        await self._put_strays_back()
        if await self._parts.leases.take_over_lapsed(but=self._name):
            self._parts.bells.ring(QUEUE)
            self._others_went.set()
        known = self._sizes.hosts
        self._sizes.heard(await self._parts.leases.offers())
        if self._sizes.hosts < known:
            self._others_went.set()

    async def _tell_levels(self) -> None:
        lengths, observer = await self._parts.queue.lengths(), self._parts.observer
        observer.level("queue", lengths.pending, state="pending")
        observer.level("queue", lengths.running, state="running")
        observer.level("groups", lengths.ready_groups)
        observer.level("capacity", self._episodes)
        observer.level("hosts", 1)

    async def _mind_what_is_called_off(self) -> None:
        with self._parts.bells.listen(CALLED_OFF) as heard:
            while True:
                await heard.wait()
                heard.clear()
                with suppress(EnvfarmError):  # the next beat looks again
                    await self._let_go_of_others()

    async def _let_go_of_others(self) -> None:
        """Stop playing what was called off or is another's by now."""
        claims = [play.claim for play in self._plays.values()]
        standing = await self._parts.queue.standing(claims) if claims else {}
        for claim in claims:
            play = self._plays.get(claim.spec.episode_id)
            if play is None or play.claim is not claim or play.task is None:
                continue
            if standing[claim.spec.episode_id] == "called off":
                play.cancel.set()
            elif standing[claim.spec.episode_id] != "mine":
                play.task.cancel()  # whoever has it now writes its trajectory

    async def _put_strays_back(self) -> None:
        """What stands as played here and is not (a play that broke off unseen): no other host would ever take it over."""
        async with self._claiming:
            playing = {(episode, play.claim.epoch) for episode, play in self._plays.items()}
            strays = await self._parts.queue.strays(self._name, playing)
        for claim in strays:
            if await self._parts.queue.put_back(claim, detail="its host played it no more", attempts=claim.attempts + 1):
                log.error("episode %s was played no more, and had no outcome: it is tried again", claim.spec.episode_id)
                self._parts.bells.ring(QUEUE)

    async def _collect_after_others(self) -> None:
        while self._parts.collect is not None:
            await self._others_went.wait()
            self._others_went.clear()
            for wait_s in COLLECT_AGAIN_S:
                if await heard_in(self._others_went, wait_s):
                    break
                try:
                    await self._parts.collect()
                except EnvfarmError as e:
                    log.warning("what a dead host left could not be removed: %s", e)

    async def _forget_what_is_over(self) -> None:
        options, parts = self._options, self._parts
        if options.keep_s is not None:
            kept = {"keep_s": options.keep_s, "keep_bills_s": options.keep_bills_s}
            await Retention(parts.results, parts.forget, **kept).run(every_s=options.beat_s)

    async def _pump(self) -> None:
        with self._parts.bells.listen(QUEUE) as heard:
            if self._parts.places is not None:
                self._parts.places.tell_places(heard.set)
            while not self._draining.is_set():
                heard.clear()
                try:
                    if await self._start_what_may():
                        continue
                    await self._look_ahead()
                    due_s = await self._parts.queue.next_due_s()
                except EnvfarmError as e:
                    log.warning("nothing can be started: %s", e)
                    due_s = self._options.first_wait_s
                beat_s = self._options.beat_s
                await heard_in(heard, beat_s if due_s is None else min(due_s + 0.001, beat_s))
            while self._plays and (left_s := self._drain_by_s - self._parts.tenure.now()) > 0:
                heard.clear()
                await heard_in(heard, min(left_s, DRAIN_RECHECK_S))
        raise _Drained

    @property
    def _episodes(self) -> int:
        """How many may be played at once now: each has one box at a time."""
        most, places = self._options.capacity.episodes, self._parts.places
        return most if places is None else min(most, places.places)

    async def _start_what_may(self) -> bool:
        """Admit, claim and start; whether there may be more."""
        left = self._options.capacity.model_copy(update={"episodes": self._episodes})
        for need, times in self._held.items():
            left = left.minus(need, times)
        if self._lease is None or left.episodes <= 0 or self._draining.is_set():
            return False
        waiting = await self._waiting()
        if not waiting:
            return False
        needs: dict[EpisodeId, Amount] = {}
        candidates = []
        for one in waiting:
            needs[one.episode] = await self._need(one.task)
            candidates.append(Candidate(episode=one.episode, tenant=one.tenant, policy=one.policy, need=needs[one.episode]))
        self.last = decision = admit(candidates, self._options.capacity, left, await self._bounds(candidates), self._turn)
        for why in (*("granted" for _ in decision.granted), *("too large" for _ in decision.too_large), *decision.held.values()):
            self._parts.observer.count("admission", decision=why)
        known = len(self._sizes.left_alone)
        refused = self._sizes.refused([one for one in waiting if one.episode in decision.too_large], needs)
        wanted = (*decision.granted, *refused)
        if not wanted:
            return len(self._sizes.left_alone) > known
        async with self._claiming:
            claimed = await self._parts.queue.claim(self._lease, wanted, {e: _grant(needs[e]) for e in wanted})
            if claimed.fenced:
                return False  # the next beat lets go
            self._turn = decision.turn
            for claim in claimed.claims:
                self._start(claim, needs[claim.spec.episode_id], refused=refused.get(claim.spec.episode_id, ""))
        return True

    async def _waiting(self) -> Sequence[Waiting]:
        options = self._options
        return await self._parts.queue.waiting(each=options.look_ahead, share=options.share, but=tuple(self._sizes.left_alone))

    async def _look_ahead(self) -> None:
        """Tell what will be asked for: a box to grade each episode that is played, and what waits, of every tenant and policy in turn.

        Of what waits all hosts see the same: each tells as much of its beginning as they play on average.
        """
        hosts = self._sizes.alike
        if self._parts.foresee is None or not hosts:
            return
        flows: dict[tuple[TenantId, str], list[TaskDigest]] = {}
        for one in await self._waiting():
            flows.setdefault((one.tenant, one.policy), []).append(one.task)
        in_turn = [task for row in zip_longest(*flows.values()) for task in row if task is not None]
        part = in_turn[: ceil(len(in_turn) / hosts)]
        self._parts.foresee([*(play.claim.spec.task for play in self._plays.values()), *part])

    async def _bounds(self, candidates: Sequence[Candidate]) -> Bounds:
        if any(c.tenant not in self._quotas for c in candidates):
            self._quotas = await self._parts.access.quotas()
        # A tenant's quota is the farm's: other hosts play its episodes, too. What an endpoint bears each host learns for itself.
        live = await self._parts.queue.live({TenantId(c.tenant) for c in candidates} & self._quotas.keys())
        tenants = {str(tenant): self._quotas[tenant].live_episodes - playing for tenant, playing in live.items()}
        flows = {(c.tenant, c.policy) for c in candidates}
        return Bounds(tenants, {flow: int(self._pressure(flow).limit) - self._flows[flow] for flow in flows})

    def _pressure(self, flow: tuple[str, str]) -> Pressure:
        most = float(max(self._options.capacity.episodes, 1))
        return self._pressures.setdefault(flow, Pressure(limit=most, most=most))

    async def _need(self, task: TaskDigest) -> Amount:
        if task not in self._limits:
            if len(self._limits) >= KNOWN_LIMITS:
                self._limits.clear()
            try:
                self._limits[task] = await self._parts.limits(task)
            except EnvfarmError:
                return _amount(Limits())  # playing it will say what is wrong with it
        return _amount(self._limits[task])

    def _start(self, claim: Claim, need: Amount, *, refused: str) -> None:
        play = _Play(claim, Amount(memory_mib=0, disk_mib=0, cores=0) if refused else need)
        self._plays[claim.spec.episode_id] = play
        self._held[play.need] += 1
        self._flows[play.flow] += 1
        play.task = asyncio.create_task(self._see_through(play, refused))
        play.task.add_done_callback(lambda _: self._over(play))  # a task that is cancelled before it began runs no `finally`
        self._parts.bells.ring(claim.spec.run_id, claim.spec.episode_id)

    async def _see_through(self, play: _Play, refused: str) -> None:
        claim = play.claim
        try:
            try:
                with boundary(EnvfarmError, f"playing {claim.spec.episode_id}"):
                    outcome = await self._outcome(play, refused)
                    self._learn(claim, outcome)
            except EnvfarmError as e:  # `attempt` raises none: a fault of this host, and no reason to leave an episode without an end
                log.exception("the attempt at %s broke off", claim.spec.episode_id)
                outcome = Invalid(Cause.FARM.value, retryable=True, detail=told(str(e)))
            await self._settle(claim, outcome, play.bill)
        except asyncio.CancelledError:
            # If this fails too, the episode is found by its lapsed lease.
            with suppress(EnvfarmError):
                await self._parts.queue.put_back(claim, detail="interrupted", attempts=claim.attempts, used=play.bill.total)
            raise

    def _over(self, play: _Play) -> None:
        claim, episode = play.claim, play.claim.spec.episode_id
        if self._plays.get(episode) is play:
            del self._plays[episode]
        self._held -= Counter({play.need: 1})
        self._flows -= Counter({play.flow: 1})
        for resource, amount in play.bill.total.model_dump().items():
            self._parts.observer.count("usage", amount, tenant=claim.tenant, resource=resource)
        self._parts.ended(episode)
        self._parts.bells.ring(QUEUE, claim.spec.run_id, episode, results_of(claim.tenant))

    async def _outcome(self, play: _Play, refused: str) -> Outcome:
        claim, spec = play.claim, play.claim.spec
        facts: dict[str, Fact] = {"episode": spec.episode_id, "run": spec.run_id, "tenant": claim.tenant, "attempt": claim.attempts}
        with self._parts.observer.span("episode", within=spec.traceparent, **facts) as span:
            outcome: Outcome = Invalid(Cause.FARM.value, retryable=False, detail=refused)
            if not refused:
                outcome = await attempt(
                    self._parts.stage,
                    claim,
                    retries=self._options.retries,
                    deaths=self._options.deaths,
                    cancel=play.cancel,
                    handed_over=play.handed_over,
                    bill=play.bill,
                )
            span.note(kind=outcome.kind, cause=outcome.cause if isinstance(outcome, Invalid) else "")
            return outcome

    async def _settle(self, claim: Claim, outcome: Outcome, bill: Bill) -> None:
        """Tell the store, as often as it takes: what was played is not lost because the database was restarted."""
        tries = 0
        try:
            encoded(claim.spec.episode_id, outcome)
        except StoreError as e:  # no number of tries stores a reward that is no number
            outcome = Invalid(Cause.GRADER.value, retryable=False, detail=str(e))
        while True:
            try:
                with boundary(StoreError, "storing the outcome"):
                    await self._store(claim, outcome, bill)
            except EnvfarmError as e:
                tries += 1
                log.warning("the outcome of %s could not be stored: %s", claim.spec.episode_id, e)
                await asyncio.sleep(self._wait_s(tries))
            else:
                return

    async def _store(self, claim: Claim, outcome: Outcome, bill: Bill) -> None:
        again = isinstance(outcome, Invalid) and outcome.retryable and claim.deaths <= self._options.deaths
        if again and isinstance(outcome, Invalid) and claim.attempts < self._options.retries:
            wait_s = self._wait_s(claim.attempts + 1)
            self._parts.observer.count("retry", cause=outcome.cause)
            tries_now = claim.attempts + 1
            await self._parts.queue.put_back(claim, detail=outcome.detail, attempts=tries_now, wait_s=wait_s, used=bill.total)
        else:
            await self._parts.queue.settle(claim, outcome, bill.total)

    def _wait_s(self, attempts: int) -> float:
        return backoff_s(attempts, first_s=self._options.first_wait_s, longest_s=self._options.longest_wait_s)

    def _learn(self, claim: Claim, outcome: Outcome) -> None:
        flow = (claim.tenant, claim.policy_name)
        failed = isinstance(outcome, Invalid) and outcome.cause == Cause.POLICY.value
        if failed or not isinstance(outcome, Invalid):
            self._pressures[flow] = self._pressure(flow).after(failed=failed)

    async def _let_go(self, *, to_others: bool = False) -> None:
        tasks = [play.task for play in self._plays.values() if play.task is not None]
        if to_others:
            for play in self._plays.values():
                play.handed_over.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _amount(limits: Limits) -> Amount:
    return Amount(memory_mib=limits.memory_mib, disk_mib=limits.disk_mib, cores=limits.cpus)


def _grant(need: Amount) -> Grant:
    return Grant(cpus=need.cores, memory_mib=need.memory_mib)


DRAIN_RECHECK_S = 5.0
COLLECT_AGAIN_S = (0.0, 30.0, 30.0, 60.0)
"""Waits before what the dead left is looked for once more: a cluster has leases of its own on boxes, which lapse later than the host's."""
KNOWN_LIMITS = 20_000
"""Tasks whose limits are kept in memory."""
