"""A whole service in one process, with fake boxes and a fake grader; all else is real: SQL, catalogue, journal, host, controller.

For tests of the controller, the API and the client, and for processes that are killed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Engine

from envfarm.api.services import ApiOptions, Services
from envfarm.controller.attempts import Role, Stage
from envfarm.controller.bells import Bells
from envfarm.controller.engine_list import EngineList
from envfarm.controller.forks import Forks
from envfarm.controller.host import Host, HostOptions, HostParts
from envfarm.controller.host_work import HostWork
from envfarm.controller.owners import Owners
from envfarm.controller.seats import POLICY, Seats
from envfarm.controller.service import PolicyVersions, RolloutService, ServiceOptions, ServiceParts
from envfarm.controller.step_episodes import SENT_BYTES, StepEpisodes, StepParts
from envfarm.controller.system_clock import SystemClock
from envfarm.controller.tenure import FencedTrajectories, Tenure
from envfarm.core.action import Action, Bash, Finish
from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import EpisodeId, TaskDigest, TenantId
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.outcome import Outcome
from envfarm.core.protocols import Places, Policy
from envfarm.core.rollout import Quota
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.core.tally import NOTHING
from envfarm.core.task import Limits
from envfarm.core.validation import ValidationReport
from envfarm.episodes.runner import EpisodeRunner
from envfarm.policies.patch import patch
from envfarm.policies.scripted import Scripted
from envfarm.scheduling.admission import Amount
from envfarm.stores.access import SqlAccess
from envfarm.stores.bell_wire import wire_of
from envfarm.stores.blobs import FileBlobStore
from envfarm.stores.catalogue import Origin, TaskCatalogue
from envfarm.stores.engines import SqlEngines
from envfarm.stores.episode_lists import SqlEpisodeLists
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.leases import SqlLeases
from envfarm.stores.policy_versions import SqlPolicies
from envfarm.stores.rollout_queue import EVERYTHING, Share, SqlRolloutQueue
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollouts import SqlRollouts
from envfarm.stores.sql import open_sqlite
from envfarm.stores.tallies import SqlTallies
from envfarm.stores.trajectories import FileTrajectories
from envfarm.stores.usage import SqlUsage
from envfarm.telemetry.prometheus import PrometheusObserver, page_of
from envfarm.testing.factories import CannedGrader, make_environment, make_task, passed_gates
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider

A, B = TenantId("a"), TenantId("b")
SCRIPT: tuple[Action, ...] = (Bash(command="one"), Finish())


async def echo(_: ScriptedBox, request: ExecRequest) -> ExecResult:
    """An answer that prints the command itself."""
    return ExecResult(exit_code=0, stdout=(request.shell or " ".join(request.argv)).encode())


@dataclass
class SmallService:
    """The service of one process. Several may share a home or a database."""

    home: Path
    engine: Engine | None = None
    capacity: Amount = field(default_factory=lambda: Amount(memory_mib=64_000, disk_mib=640_000, cores=64, episodes=8))
    lease_s: float = 15.0
    patience_s: float = 300.0
    retries: int = 2
    keep_s: float = 3600.0
    sent_bytes: int = SENT_BYTES
    most_unfinished: int = 100_000
    share: Share = EVERYTHING
    faults: FaultPoints = NO_FAULTS
    api: ApiOptions = field(default_factory=ApiOptions)
    foresee: Callable[[Sequence[TaskDigest]], None] | None = None
    forget: Callable[[Sequence[EpisodeId]], Awaitable[None]] | None = None
    """Replaces the trajectories' own method."""
    places: Places | None = None
    observer: Observer = UNOBSERVED
    counts: PrometheusObserver | None = None
    """What `observer` counts with, where it does."""
    provider: ScriptedProvider = field(default_factory=lambda: ScriptedProvider(answer=echo))
    grader: CannedGrader = field(default_factory=CannedGrader)
    grade_again_s: Sequence[float] = ()
    sandbox: str = "local"
    builds: bool = True
    policy: Callable[[EpisodeSpec], Policy] | None = None
    """Replaces the script, for the policy `nop`."""
    played: list[EpisodeId] = field(default_factory=list)
    """All attempts, in order."""

    def __post_init__(self) -> None:
        clock, faults = SystemClock(), self.faults
        self.engine = engine = self.engine or open_sqlite(self.home / "farm.db")
        self.episodes = SqlEpisodes(engine, clock, faults=faults)
        self.rollouts = SqlRollouts(engine, clock, faults=faults)
        self.queue = SqlRolloutQueue(engine, clock, faults=faults)
        self.results = SqlRolloutResults(engine, faults=faults)
        self.lists = SqlEpisodeLists(engine)
        self.usage = SqlUsage(engine)
        self.access = SqlAccess(engine, clock)
        self.leases = SqlLeases(engine)
        self.tallies = SqlTallies(engine)
        self.catalogue = TaskCatalogue(self.home / "catalogue")
        self.blobs = FileBlobStore(self.home / "blobs")
        self.trajectories = FileTrajectories(self.home / "trajectories", blobs=self.blobs, faults=faults)
        self.wire = wire_of(engine)
        self.bells = Bells(self.wire.send)
        self.engines = EngineList(SqlEngines(engine), self.bells)
        self.seats = Seats(self.bells)
        tenure = Tenure(clock)
        journal = FencedTrajectories(self.trajectories, tenure)
        runner = EpisodeRunner(
            self.provider, self.grader, journal, clock, grade_again_s=self.grade_again_s, faults=faults, observer=self.observer
        )
        stage = Stage(journal, runner, self._cast)
        parts = HostParts(
            queue=self.queue,
            rollouts=self.rollouts,
            results=self.results,
            leases=self.leases,
            access=self.access,
            owners=Owners(self.home / "owners"),
            stage=stage,
            tenure=tenure,
            bells=self.bells,
            limits=self._limits,
            ended=self.seats.leave,
            forget=self.forget or self.trajectories.forget,
            foresee=self.foresee,
            places=self.places,
            observer=self.observer,
            counted=self.counts.tally if self.counts else lambda: NOTHING,
        )
        times = {"lease_s": self.lease_s, "patience_s": self.patience_s, "keep_s": self.keep_s, "first_wait_s": 0.001}
        options = HostOptions(capacity=self.capacity, retries=self.retries, share=self.share, **times)
        self.host = Host(parts, options)
        policies = SqlPolicies(engine, clock)
        self.versions = PolicyVersions(policies, self.bells)
        service = ServiceParts(
            rollouts=self.rollouts,
            results=self.results,
            catalogue=self.catalogue,
            datasets=self.catalogue.datasets,
            bells=self.bells,
            clock=clock,
            check=self._check,
            sandbox=self.sandbox,
            observer=self.observer,
        )
        self.service = RolloutService(service, ServiceOptions(most_unfinished=self.most_unfinished, recheck_s=0.2))
        steps = StepParts(self.service, self.rollouts, self.episodes, self.trajectories, self.seats, self.bells, 0.2, self.sent_bytes)
        self.steps = StepEpisodes(steps)
        self.forks = Forks(steps, self.steps)

    @property
    def services(self) -> Services:
        """The services for the API."""
        return Services(
            rollouts=self.service,
            versions=self.versions,
            steps=self.steps,
            forks=self.forks,
            listing=self.rollouts,
            episodes=self.episodes,
            lists=self.lists,
            results=self.results,
            usage=self.usage,
            access=self.access,
            engines=self.engines,
            catalogue=self.catalogue,
            datasets=self.catalogue.datasets,
            blobs=self.blobs,
            sandbox=self.sandbox,
            builds=self.builds,
            options=self.api,
            observer=self.observer,
            metrics=self.metrics,
        )

    async def metrics(self) -> tuple[bytes, str]:
        """What `/metrics` shows."""
        return page_of(await self.tallies.whole())

    async def open(self, *, tasks: int = 3, tenants: Sequence[TenantId] = (A, B)) -> None:
        """Create the schema, tenants and the tasks `made-up/t0`, …."""
        clock = SystemClock()
        await self.episodes.open()
        for tenant in tenants:
            await self.access.add_tenant(tenant, Quota())
        for n in range(tasks):
            task = make_task(name=f"made-up/t{n}", language=("python", "go")[n % 2])
            origin = Origin(repository=f"made-up/r{n // 2}")
            environment = make_environment()
            report = ValidationReport(
                task=task.digest, environment=environment, provider="local", created_at=clock.now(), gates=passed_gates()
            )
            await self.catalogue.add_validated(task, report, origin=origin)

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        """Run a host, and listen for notices of other processes."""
        running = asyncio.create_task(HostWork(self.host, self.bells, self.wire).run())
        try:
            yield
            if running.done():
                await running
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen for notices of other processes without a host, as for the API only."""
        running = asyncio.create_task(self.wire.run(self.bells.rung_elsewhere))
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def close(self) -> None:
        """Close the database."""
        self.catalogue.close()
        await self.episodes.close()

    async def _limits(self, task: TaskDigest) -> Limits:
        return (await self.catalogue.get(task)).limits

    async def _check(self, policy: PolicySpec, _: TaskDigest) -> None:
        if policy.name not in {"nop", "scripted", "patch", POLICY}:
            raise UsageError(f"there is no policy {policy.name!r}")

    async def _cast(self, spec: EpisodeSpec) -> Role:
        self.played.append(spec.episode_id)
        task = await self.catalogue.get(spec.task)
        return Role(task, make_environment(), self._policy_of(spec))

    def _policy_of(self, spec: EpisodeSpec) -> Policy:
        if spec.policy.name == POLICY:
            return self.seats.take(spec)
        if spec.policy.name == "patch":
            return patch(make_task(), spec.policy.options["patch"])
        return self.policy(spec) if self.policy is not None else Scripted(SCRIPT)


def rewards(*outcomes: Outcome) -> CannedGrader:
    """A grader that returns these outcomes in order."""
    return CannedGrader(list(outcomes))
