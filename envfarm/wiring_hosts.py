"""Settings → hosts: what plays episodes, in this process or, by a picklable `HostPlan`, in others. Beside `wiring`.

Called by `envfarm serve`, by the commands that run hosts, and in Ray's workers, which get a plan and make everything themselves. What
tenants may have played is decided here, where both the settings and the policies are known: which policies, at which addresses.
"""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from envfarm.controller.attempts import Role, Stage
from envfarm.controller.bells import Bells
from envfarm.controller.engine_list import EngineList
from envfarm.controller.host import Host, HostOptions, HostParts
from envfarm.controller.host_driver import Fleet, HostDriver
from envfarm.controller.host_processes import ProcessFleet
from envfarm.controller.host_work import HostWork
from envfarm.controller.owners import Owners
from envfarm.controller.seats import POLICY, Seats
from envfarm.controller.system_clock import SystemClock
from envfarm.controller.tenure import FencedTrajectories, Tenure
from envfarm.core.engine import EngineSpec
from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.errors import Conflict, Denied, GatewayError, StoreError, UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, TaskDigest
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.program import Allowance
from envfarm.core.protocols import Foresees, ModelSession, Places
from envfarm.core.tally import Tally
from envfarm.core.task import Limits
from envfarm.policies.addresses import PolicyAddresses, read_keys
from envfarm.policies.openai_chat import ChatOptions
from envfarm.policies.registry import NAMES
from envfarm.scheduling.admission import Amount
from envfarm.scheduling.host_count import Scale
from envfarm.settings import Settings
from envfarm.stores.access import SqlAccess
from envfarm.stores.bell_wire import BellWire, wire_of
from envfarm.stores.engines import SqlEngines
from envfarm.stores.leases import HostLease, SqlLeases
from envfarm.stores.rollout_queue import Share, SqlRolloutQueue
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollouts import SqlRollouts
from envfarm.wiring import Farm
from envfarm.wiring_telemetry import telemetry

if TYPE_CHECKING:
    from envfarm.gateway.doorway import Doorways

MEMORY_SHARE = 0.8
"""Of the machine's memory, for boxes."""
CORE_SHARE = 4.0
"""Episodes think longer than they act: so many boxes share a core."""
ON_THIS_MACHINE = frozenset({"local", "docker"})
"""Sandboxes whose boxes are this machine's. Others' are bounded by their number alone: whoever places them knows the rest."""
UNBOUNDED = 1e12
DRIVER_LEASE_S = 86400.0
"""Long: nobody waits for it to lapse. Whoever begins takes it, and the one before finds out."""
PROGRAM = "program"
POLICIES = (*NAMES, POLICY)
"""What tenants may have played."""
TRAINERS = Share(only=frozenset({POLICY}))
"""What is played where the trainers' calls arrive."""
OTHERS = Share(never=frozenset({POLICY}))
"""What hosts play that no trainer's call reaches."""


@dataclass(frozen=True)
class ProcessParts:
    """What a process's hosts and its API share."""

    farm: Farm
    sandbox: str
    bells: Bells
    wire: BellWire
    """Run it beside them, with the bells' `rung_elsewhere`."""
    seats: Seats
    admitted: "Admitted"
    engines: EngineList


def process_parts(farm: Farm, sandbox: str, apply: Callable[[Sequence[EngineSpec]], None] = lambda _: None) -> ProcessParts:
    """Bells, their wire to other processes, seats for trainers, and engines (`apply` gives them to a gateway), over an open farm."""
    wire = wire_of(farm.database)
    bells = Bells(wire.send)
    seats = Seats(bells)
    engines = EngineList(SqlEngines(farm.database), bells, apply)
    return ProcessParts(farm, sandbox, bells, wire, seats, Admitted(farm, seats, engines), engines)


def host(on: ProcessParts, options: HostOptions, counted: Callable[[], Tally]) -> Host:
    """A host over these parts, with a tenure and a journal of its own. `counted` tells what the farm's observer counted so far."""
    farm, engine, clock = on.farm, on.farm.database, SystemClock()
    tenure = Tenure(clock)
    journal = FencedTrajectories(farm.trajectories, tenure)
    provider = farm.provider(on.sandbox)
    parts = HostParts(
        queue=SqlRolloutQueue(engine, clock, faults=farm.faults),
        rollouts=SqlRollouts(engine, clock, faults=farm.faults),
        results=SqlRolloutResults(engine, faults=farm.faults),
        leases=SqlLeases(engine),
        access=SqlAccess(engine, clock),
        owners=Owners(farm.settings.runs / "owners"),
        stage=Stage(journal, farm.runner(on.sandbox, journal), on.admitted.cast),
        tenure=tenure,
        bells=on.bells,
        limits=on.admitted.limits,
        ended=on.seats.leave,
        forget=farm.trajectories.forget,
        collect=partial(farm.collect_left_overs, on.sandbox),
        foresee=partial(farm.foresee, on.sandbox) if isinstance(provider, Foresees) and provider.ahead else None,
        places=provider if isinstance(provider, Places) else None,
        observer=farm.observer,
        counted=counted,
    )
    return Host(parts, options)


class HostPlan(Frozen):
    """How to make a host in whatever process gets this; it implements `HostMaker`, and pickles."""

    settings: Settings
    sandbox: str = "local"
    episodes: int | None = Field(default=None, gt=0)
    """At once, in one host; by the machine's cores and memory where absent."""
    beside: int = Field(default=1, gt=0)
    """Hosts that share the machine, this one included."""
    lease_s: float = Field(default=15.0, gt=0)
    model: Path | None = None
    """A directory with tokenizer and chat template, there wherever hosts are: then they play programs."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[HostWork]:
        """A host that plays all but the trainers' own episodes, and its wire. Boxes and stores are let go of after the block."""
        settings, keys = self.settings, addresses(self.settings).key
        with telemetry(settings) as told:
            observer = told.observer
            async with (
                doorways(settings, self.model, observer=observer) as models,
                Farm(settings, models=models, key_of=keys, observer=observer) as farm,
            ):
                on = process_parts(farm, self.sandbox, models.gateway.set_engines if models else lambda _: None)
                # What is over the service's own host forgets: one place says how long is kept.
                options = HostOptions(capacity=self.capacity(), lease_s=self.lease_s, share=OTHERS, keep_s=None)
                playing = host(on, options, told.prometheus.tally)
                yield HostWork(playing, on.bells, on.wire, on.engines if models else None)

    def capacity(self) -> Amount:
        """What the host may fill."""
        whole = capacity(self.settings, self.sandbox, self.episodes)
        if self.sandbox not in ON_THIS_MACHINE:
            return whole
        shared = {name: getattr(whole, name) / self.beside for name in ("memory_mib", "disk_mib", "cores")}
        return Amount(**shared, episodes=self.episodes or max(whole.episodes // self.beside, 1))


def addresses(settings: Settings) -> PolicyAddresses:
    """Where tenants' policies may be called, and with which keys. Raises `UsageError`."""
    return PolicyAddresses(settings.policy_urls, read_keys(settings.policy_keys))


@asynccontextmanager
async def doorways(
    settings: Settings, model: Path | None, engines: Sequence[EngineSpec] = (), observer: Observer = UNOBSERVED
) -> AsyncIterator["Doorways | None"]:
    """See `wiring_models.doorways`. Raises `UsageError` where what it needs is not installed."""
    if model is None and not engines:
        yield None
        return
    try:
        from envfarm import wiring_models  # noqa: PLC0415 - of the extra `serve`
    except ModuleNotFoundError as e:
        raise UsageError(f"serving a model needs {e.name}", hint="pip install 'envfarm[serve]'") from e
    async with wiring_models.doorways(settings, model, engines, observer) as models:
        yield models


class Elsewhere:
    """The models of a process that plays no programs, but says whether they may be asked for. Implements `Models`."""

    def open(self, episode: EpisodeId, allowance: Allowance) -> ModelSession:
        """Never called: nothing is played here."""
        raise GatewayError(f"no model is served where episode {episode} of {allowance.calls} calls was started")


@asynccontextmanager
async def processes(plan: HostPlan) -> AsyncIterator[ProcessFleet]:
    """Hosts as processes of this machine."""
    yield ProcessFleet(plan)


@asynccontextmanager
async def driver_on(
    fleet: Fleet, plan: HostPlan, scale: Scale, claim: str, *, replace_grace_s: float = float("inf")
) -> AsyncIterator[HostDriver]:
    """A driver of a fleet. `claim` names what only one driver may have; the newest one has it."""
    async with Farm(plan.settings) as farm:
        leases, clock = SqlLeases(farm.database), SystemClock()
        load = partial(SqlRolloutQueue(farm.database, clock).load, OTHERS)
        if not claim:
            yield HostDriver(fleet, scale, load, clock)
            return
        held = await leases.take(claim, lease_s=DRIVER_LEASE_S)
        try:
            yield HostDriver(fleet, scale, load, clock, replace_grace_s=replace_grace_s, mine=partial(_keep, leases, held))
        finally:
            with suppress(StoreError):
                await leases.drop(held)


async def _keep(leases: SqlLeases, held: HostLease) -> None:
    try:
        if await leases.renew(held, lease_s=DRIVER_LEASE_S):
            return
    except StoreError:
        return  # a database that is away has no other driver either
    raise Conflict(f"another driver has taken over: {held.host}", hint="it replaces hosts of the older release")


class Admitted:
    """What tenants may have played, and how it is cast."""

    def __init__(self, farm: Farm, seats: Seats, engines: EngineList) -> None:
        self._farm = farm
        self._seats = seats
        self._engines = engines
        self._addresses = addresses(farm.settings)

    async def check(self, policy: PolicySpec, task: TaskDigest) -> None:
        """Raises `UsageError` and `Denied` before anything is kept."""
        self._check_policy(policy)
        if policy.name != POLICY:
            spec = {"episode_id": "check", "run_id": "check", "task": task, "member": 0, "policy": policy}
            self._farm.policy(EpisodeSpec.model_validate(spec), await self._farm.catalogue.get(task))

    async def cast(self, spec: EpisodeSpec) -> Role:
        """Cast an episode. Asked again here, since the operator's list may have changed meanwhile. Raises as `check` does."""
        self._check_policy(spec.policy)
        if spec.policy.name == PROGRAM:
            await self._engines.refresh()
        if spec.policy.name != POLICY:
            return await self._farm.cast(spec)
        task = await self._farm.catalogue.get(spec.task)
        return Role(task, await self._farm.environment(task, spec.sandbox), self._seats.take(spec))

    async def limits(self, task: TaskDigest) -> Limits:
        """What a task's box may use."""
        return (await self._farm.catalogue.get(task)).limits

    def _check_policy(self, policy: PolicySpec) -> None:
        if policy.name not in POLICIES:
            raise UsageError(f"there is no policy {policy.name!r}", hint=f"there are {', '.join(NAMES)}")
        if "file" in policy.options and policy.name == "scripted":
            raise Denied("files of the farm's machine are not for tenants", hint="give `actions`")
        if policy.name == POLICY and policy.options:
            raise UsageError(f"policy {POLICY} takes no options")
        if policy.name == "openai_chat":
            url = policy.options.get("base_url", ChatOptions.model_fields["base_url"].default)
            if not isinstance(url, str) or not self._addresses.lists(url):
                raise Denied(
                    f"the operator has not listed the address {str(url)[:200]!r}",
                    hint="ENVFARM_POLICY_URLS, or `envfarm serve --policy-url`",
                )


def capacity(settings: Settings, sandbox: str, episodes: int | None) -> Amount:
    """What a host that is alone on this machine may fill with boxes of this sandbox."""
    found = machine(settings)
    if sandbox not in ON_THIS_MACHINE:
        found = Amount(memory_mib=UNBOUNDED, disk_mib=UNBOUNDED, cores=UNBOUNDED, episodes=found.episodes)
    return found if episodes is None else found.model_copy(update={"episodes": episodes})


def machine(settings: Settings) -> Amount:
    """What this machine has for boxes."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    settings.home.mkdir(parents=True, exist_ok=True)
    disk = os.statvfs(settings.home)
    cores = len(os.sched_getaffinity(0)) * CORE_SHARE
    memory_mib = pages * size * MEMORY_SHARE / 2**20
    return Amount(memory_mib=memory_mib, disk_mib=disk.f_bavail * disk.f_frsize / 2**20, cores=cores, episodes=int(cores) * 4)
