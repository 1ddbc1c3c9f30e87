"""One host of the measured farm, as a process: `python -m tests.bench.farm_host`. Told what to do by one JSON object on standard input.

All of it is the farm's own, put together as `envfarm.wiring_service` does; boxes are simulated ones. Until SIGTERM; then it prints what
it used.
"""

import asyncio
import json
import resource
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from envfarm.controller.attempts import Role, Stage
from envfarm.controller.bells import Bells
from envfarm.controller.host import Host, HostOptions, HostParts
from envfarm.controller.owners import Owners
from envfarm.controller.system_clock import SystemClock
from envfarm.controller.tenure import FencedTrajectories, Tenure
from envfarm.core.episode import EpisodeSpec
from envfarm.core.frozen import Frozen
from envfarm.core.ids import TaskDigest
from envfarm.core.protocols import Box, SandboxProvider
from envfarm.core.sandbox import SandboxSpec
from envfarm.core.task import Limits
from envfarm.episodes.grader import SandboxGrader
from envfarm.episodes.runner import EpisodeRunner
from envfarm.policies.scripted import Scripted
from envfarm.scheduling.admission import Amount
from envfarm.stores.access import SqlAccess
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.leases import SqlLeases
from envfarm.stores.rollout_queue import SqlRolloutQueue
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollouts import SqlRollouts
from envfarm.stores.sql import open_database
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.boxd_simulator.__main__ import allow_many_connections
from envfarm.testing.boxd_simulator.provider import SimulatedProvider
from tests.bench import farm_work


class HostOrder(Frozen):
    """What a host is told."""

    database: str
    home: str
    port: int
    """The simulator's."""
    first_address: str
    episodes: int
    """At once."""
    actions: int
    profile: str = ""
    """A file for cProfile's figures; none where empty."""


@dataclass
class Timed:
    """A provider, and how long each box took to be had."""

    provider: SimulatedProvider
    taken_s: list[float] = field(default_factory=list)
    name: str = "simulated"

    async def create(self, spec: SandboxSpec) -> Box:
        began = time.perf_counter()
        box = await self.provider.create(spec)
        self.taken_s.append(time.perf_counter() - began)
        return box

    def __getattr__(self, name: str) -> Any:
        return getattr(self.provider, name)


async def main(order: HostOrder) -> None:
    """Play until SIGTERM."""
    allow_many_connections()
    engine, blobs, statements = open_database(order.database), MemoryBlobs(), [0]

    @event.listens_for(engine, "before_cursor_execute")
    def _count(*_: object) -> None:
        statements[0] += 1

    checkout = await blobs.put(farm_work.CHECKOUT)
    timed = Timed(SimulatedProvider(order.port, blobs, first=IPv4Address(order.first_address)))
    catalogue = TaskCatalogue(Path(order.home) / "catalogue")
    environment = farm_work.environment(checkout)

    async def cast(spec: EpisodeSpec) -> Role:
        return Role(await catalogue.get(spec.task), environment, Scripted(farm_work.actions(spec.seed, order.actions)))

    async def limits(task: TaskDigest) -> Limits:
        return (await catalogue.get(task)).limits

    host = _host(order, engine, timed, (cast, limits))
    playing = asyncio.create_task(host.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    with suppress(asyncio.CancelledError):
        await playing
    used = resource.getrusage(resource.RUSAGE_SELF)
    told = {"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024, "statements": statements[0]}
    sys.stdout.write(json.dumps({**told, "created_s": timed.taken_s}) + "\n")
    catalogue.close()
    engine.dispose()


def _host(order: HostOrder, engine: Engine, provider: SandboxProvider, task_of: Any) -> Host:
    clock, tenure, home = SystemClock(), None, Path(order.home)
    tenure = Tenure(clock)
    journal = FencedTrajectories(FileTrajectories(home / "trajectories"), tenure)
    cast, limits = task_of
    parts = HostParts(
        queue=SqlRolloutQueue(engine, clock),
        rollouts=SqlRollouts(engine, clock),
        results=SqlRolloutResults(engine),
        leases=SqlLeases(engine),
        access=SqlAccess(engine, clock),
        owners=Owners(home / "owners"),
        stage=Stage(journal, EpisodeRunner(provider, SandboxGrader(provider), journal, clock), cast),
        tenure=tenure,
        bells=Bells(),
        limits=limits,
    )
    plenty = Amount(memory_mib=1e9, disk_mib=1e9, cores=1e9, episodes=order.episodes)
    return Host(parts, HostOptions(capacity=plenty, lease_s=60.0, look_ahead=64))


if __name__ == "__main__":
    told = HostOrder.model_validate_json(sys.stdin.readline())
    if told.profile:
        import cProfile

        with cProfile.Profile() as profile:
            asyncio.run(main(told))
        profile.dump_stats(told.profile)
    else:
        asyncio.run(main(told))
