"""The service: takes rollouts, hands finished groups over, moves policies on.

Nothing of one tenant is seen or touched for another: it is `NotFound`. Nothing is played here: hosts do, in this process or in others,
and the database is all that they share.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from envfarm.controller.bells import CALLED_OFF, QUEUE, Bells, heard_in, results_of
from envfarm.controller.selection import nothing_selected, select
from envfarm.core import digest
from envfarm.core.episode import SEEDS, Branch, EpisodeSpec, PolicySpec
from envfarm.core.errors import EnvfarmError, UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, RunId, TaskDigest, TenantId, episode_id
from envfarm.core.listing import Cancelled
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.protocols import Clock
from envfarm.core.rollout import (
    Acknowledged,
    Kind,
    LeasedGroup,
    LeaseRequest,
    PolicyState,
    RolloutEvent,
    RolloutRequest,
    RolloutView,
    TaskSelector,
)
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.catalogue_datasets import Datasets
from envfarm.stores.catalogue_lookup import TaskRow
from envfarm.stores.dataset_splits import own_name, shown_name
from envfarm.stores.policy_versions import SqlPolicies
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollouts import AT_ONCE, Happened, NewRollout, SqlRollouts

log = logging.getLogger(__name__)
EVENTS_AT_ONCE = 200
PATCH = "patch"
"""The policy that makes a finished change."""
SHORTER = "give a name or a digest of what is longer"
SOONEST_S = 0.05
"""Until a lease is looked for that is about to lapse: the database's clock is not this process's."""


class ServiceOptions(Frozen):
    """A service's bounds."""

    most_unfinished: int = 1_000_000
    """Episodes of all tenants that may wait or be played."""
    most_per_rollout: int = 100_000
    most_options_bytes: int = 1 << 20
    """Of a policy's options as JSON, but for `PATCH`, whose option is a change."""
    most_policy_bytes: int = 64 << 20
    """Of a rollout's policy options as JSON, times its episodes: each has a copy. About what the largest rollout's rows have besides."""
    most_metadata_bytes: int = 64 << 10
    """Of a rollout's metadata as JSON: given back with each of its groups."""
    recheck_s: float = 2.0
    """How often a waiting call looks for what other processes did."""


class Fork(Frozen):
    """Where an episode goes on from, and the digest of what was asked for: worked out again, it may be another place by then."""

    branch: Branch
    asked: str


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What a service is made of."""

    rollouts: SqlRollouts
    results: SqlRolloutResults
    catalogue: TaskCatalogue
    datasets: Datasets
    bells: Bells
    clock: Clock
    check: Callable[[PolicySpec, TaskDigest], Awaitable[None]]
    """Whether a tenant may have this policy play this task. Raises `UsageError` and `Denied`."""
    sandbox: str
    """Whose boxes the farm plays in."""
    observer: Observer = UNOBSERVED


class RolloutService:
    """Rollouts of all tenants."""

    def __init__(self, parts: ServiceParts, options: ServiceOptions | None = None) -> None:
        self._parts = parts
        self._options = options or ServiceOptions()
        self._looks: dict[tuple[TenantId, RunId, int], asyncio.Future[Happened]] = {}
        """Looks for events that have not begun, by what they look for."""
        self._looking = asyncio.Lock()

    async def submit(self, tenant: TenantId, request: RolloutRequest, *, key: str | None = None) -> RolloutView:
        """Ask for a rollout. With a key it is asked for once, however often this is called.

        Raises `UsageError` for a request that makes no sense, `Denied` for an address that is not listed, `Conflict` for a key that was
        used for another request, `Overloaded` where a queue or quota is full.
        """
        return await self._parts.rollouts.get(tenant, await self.ask(tenant, request, key=key, kind="rollout"))

    async def ask(self, tenant: TenantId, request: RolloutRequest, *, key: str | None, kind: Kind, fork: Fork | None = None) -> RunId:
        """Keep a request, of whatever kind; its rollout. Raises as `submit` does."""
        observer = self._parts.observer
        with observer.span("rollout", kind=kind, tenant=tenant) as span:
            try:
                run = await self._keep(tenant, request, key, kind, span.traceparent, fork)
            except EnvfarmError as e:
                observer.count("asked", kind=kind, answer=type(e).__name__)
                raise
            observer.count("asked", kind=kind, answer="taken")
            span.note(run=run)
            return run

    async def _keep(
        self, tenant: TenantId, request: RolloutRequest, key: str | None, kind: Kind, traceparent: str, fork: Fork | None
    ) -> RunId:
        options_bytes = _bytes(request.policy.options)
        if (size := _bytes(request.metadata)) > (most := self._options.most_metadata_bytes):
            raise UsageError(f"the metadata has {size} bytes, and may have {most}", hint=SHORTER)
        if options_bytes > (most := self._options.most_options_bytes) and request.policy.name != PATCH:
            raise UsageError(f"the policy's options have {options_bytes} bytes, and may have {most}", hint=SHORTER)
        asked = fork.asked if fork is not None else digest.of_json({"kind": kind, "request": request.model_dump(mode="json")})
        if key is not None and (known := await self._parts.rollouts.known(tenant, key, asked)) is not None:
            return known
        sandbox = self._parts.sandbox
        if request.sandbox not in {"", sandbox}:
            raise UsageError(
                f"this farm's boxes are {sandbox!r}, not {request.sandbox!r}", hint="leave `sandbox` out: it is the farm's own"
            )
        rows = await self.choose(tenant, request.tasks)
        if not rows:
            raise await nothing_selected(self._parts.catalogue, request.tasks)
        if (many := len(rows) * request.group_size) > self._options.most_per_rollout:
            raise UsageError(f"{many} episodes are more than the {self._options.most_per_rollout} of one rollout", hint="give a `limit`")
        if options_bytes * many > (most := self._options.most_policy_bytes):
            told = f"the policy's options have {options_bytes} bytes for each of {many} episodes, and may have {most} in one rollout"
            raise UsageError(told, hint="shorten them, or ask for fewer episodes at once")
        await self._parts.check(request.policy, rows[0].digest)
        run = RunId(f"{kind}-{secrets.token_hex(8)}")
        seed = secrets.randbelow(SEEDS) if request.seed is None else request.seed
        request = request.model_copy(update={"seed": seed, "sandbox": sandbox})
        more = {"traceparent": traceparent, "branch": fork.branch if fork is not None else None}

        def members() -> tuple[EpisodeSpec, ...]:
            each = range(request.group_size)
            return tuple(_spec(run, row.digest, member, request, seed).model_copy(update=more) for row in rows for member in each)

        specs = await asyncio.to_thread(members)  # up to 100,000: seconds in which the event loop would serve nobody
        new = NewRollout(id=run, tenant=tenant, kind=kind, key=key, asked=asked, request=request, specs=specs)
        added = await self._parts.rollouts.add(new, most_unfinished=self._options.most_unfinished)
        self._parts.bells.ring(QUEUE)
        return added.rollout

    async def choose(self, tenant: TenantId, wanted: TaskSelector) -> list[TaskRow]:
        """The tasks that a tenant's selector means; its own datasets come before the operator's. Raises `UsageError`."""
        banded = wanted.min_pass_rate is not None or wanted.max_pass_rate is not None
        rates = await self._parts.results.pass_rates(tenant) if banded else {}
        if wanted.dataset:
            name, _, version = wanted.dataset.partition("@")
            known = await self._parts.datasets.names()
            seen = [stored for stored in (own_name(tenant, name), name) if (stored, version) in known and shown_name(tenant, stored)]
            if not seen:
                raise UsageError(f"no dataset {wanted.dataset!r}", hint="GET /v1/datasets shows what there is, as name@version")
            wanted = wanted.model_copy(update={"dataset": f"{seen[0]}@{version}"})
        return await select(self._parts.catalogue, wanted, rates)

    async def get(self, tenant: TenantId, rollout: RunId, *, whole: bool = False) -> RolloutView:
        """Where it stands; `whole` leaves nothing of what was asked for out. Raises `NotFound`."""
        return await self._parts.rollouts.get(tenant, rollout, whole=whole)

    async def events(self, tenant: TenantId, rollout: RunId, *, after: int = 0) -> AsyncGenerator[RolloutEvent, None]:
        """What happened after event number `after`, and what happens, until the rollout is over. Raises `NotFound` at the first."""
        with self._parts.bells.listen(rollout) as heard:
            while True:
                heard.clear()
                found = await self._look(tenant, rollout, after)
                for event in found.events:
                    after = event.number
                    yield event
                if not found.events and found.over:
                    return
                if not found.events:
                    await heard_in(heard, self._options.recheck_s)

    async def _look(self, tenant: TenantId, rollout: RunId, after: int) -> Happened:
        """What happened by now. Followers that look for the same share a look that has not begun, and one look is made at a time.

        Thousands of followers thus keep one of the store's threads busy at most; the others are for everybody else's calls.
        """
        wanted = (tenant, rollout, after)

        async def look() -> Happened:
            async with self._looking:
                del self._looks[wanted]  # whoever comes from now on may know of more
                return await self._parts.rollouts.events(tenant, rollout, after=after, limit=EVENTS_AT_ONCE)

        if wanted not in self._looks:
            self._looks[wanted] = asyncio.ensure_future(look())
        return await asyncio.shield(self._looks[wanted])

    async def cancel(self, tenant: TenantId, rollout: RunId) -> RolloutView:
        """Call it off; safe to say again. Raises `NotFound`."""
        flying = await self._parts.rollouts.cancel(tenant, rollout, "the tenant cancelled it")
        self._parts.bells.ring(rollout, QUEUE, *([CALLED_OFF] if flying else []), *flying)
        return await self._parts.rollouts.get(tenant, rollout)

    async def cancel_all(self, tenant: TenantId, why: str) -> Cancelled:
        """Call off all that the tenant has now, of whatever kind, and is not over; safe to say again. Raises `NotFound`.

        What it asks for meanwhile is not: its quota refuses that.
        """
        active = await self._parts.rollouts.active(tenant)
        rollouts = running = 0
        for at in range(0, len(active), AT_ONCE):
            gone = await self._parts.rollouts.cancel_each(active[at : at + AT_ONCE], why)
            self._parts.bells.ring(QUEUE, *([CALLED_OFF] if gone.flying else []), *gone.rollouts, *gone.flying)
            rollouts, running = rollouts + len(gone.rollouts), running + len(gone.flying)
        log.warning("tenant %s: %d rollouts were called off, with %d running episodes: %s", tenant, rollouts, running, why)
        return Cancelled(rollouts=rollouts, running_episodes=running)

    async def lease_results(self, tenant: TenantId, ask: LeaseRequest) -> tuple[LeasedGroup, ...]:
        """The next finished groups, waiting for the first one as long as asked for. At least once, until acknowledged.

        Raises `NotFound` for a rollout that the tenant does not have.
        """
        asked = tuple(map(RunId, ask.rollouts))
        if asked:
            await self._parts.rollouts.check_own(tenant, asked)
        end = self._parts.clock.monotonic() + ask.wait_s
        with self._parts.bells.listen(results_of(tenant)) as heard:
            while True:
                heard.clear()
                found = await self._parts.results.lease(tenant, limit=ask.limit, lease_s=ask.lease_s, rollouts=asked)
                left_s = end - self._parts.clock.monotonic()
                if found or left_s <= 0:
                    return found
                if asked and not await self._parts.results.may_come(tenant, asked):
                    return ()
                free_s = await self._parts.results.next_free_s(tenant, asked)
                await heard_in(heard, min(left_s, self._options.recheck_s, left_s if free_s is None else max(free_s, SOONEST_S)))

    async def acknowledge(self, tenant: TenantId, leases: Sequence[str]) -> Acknowledged:
        """The trainer has them. Safe to say again."""
        return await self._parts.results.acknowledge(tenant, leases)


class PolicyVersions:
    """How trainers move their policies on. Hosts are told what was called off."""

    def __init__(self, policies: SqlPolicies, bells: Bells) -> None:
        self._policies = policies
        self._bells = bells

    async def get(self, tenant: TenantId, name: str) -> PolicyState:
        """A policy that was never told of has version 0."""
        return await self._policies.get(tenant, name)

    async def move_on(self, tenant: TenantId, name: str, version: int) -> PolicyState:
        """A new version; groups that are too far behind begin anew. Raises `Conflict` for a lower one than the present."""
        return await self._after(tenant, name, await self._policies.move_on(tenant, name, version))

    async def pause(self, tenant: TenantId, name: str, *, paused: bool) -> PolicyState:
        """Start no further episode of it, or go on."""
        await self._policies.pause(tenant, name, paused=paused)
        return await self._after(tenant, name, [])

    async def abort(self, tenant: TenantId, name: str) -> PolicyState:
        """Groups that are in flight begin anew."""
        return await self._after(tenant, name, await self._policies.abort(tenant, name))

    async def _after(self, tenant: TenantId, name: str, flying: Sequence[EpisodeId]) -> PolicyState:
        self._bells.ring(QUEUE, *([CALLED_OFF] if flying else []))
        return await self._policies.get(tenant, name)


def _bytes(value: Mapping[str, Any]) -> int:
    return len(to_json(value))


def _spec(run: RunId, task: TaskDigest, member: int, request: RolloutRequest, seed: int) -> EpisodeSpec:
    return EpisodeSpec(
        episode_id=episode_id(run, task, member),
        run_id=run,
        task=task,
        member=member,
        policy=request.policy,
        budgets=request.budgets,
        seed=seed + member,
        sandbox=request.sandbox,
    )


async def until(bells: Bells, name: str, look: Callable[[], Awaitable[bool]], *, wait_s: float, recheck_s: float) -> None:
    """Look again at every ring, until `look` says that it is enough, at most so long. Looks once in any case."""
    end = asyncio.get_running_loop().time() + wait_s
    with bells.listen(name) as heard:
        while True:
            heard.clear()
            left_s = end - asyncio.get_running_loop().time()
            if await look() or left_s <= 0:
                return
            await heard_in(heard, min(left_s, recheck_s))
