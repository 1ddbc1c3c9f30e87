"""A `HostMaker` for small services: hosts in other processes, with fake boxes and everything else real. For tests and the bench."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from envfarm.controller.host_work import HostWork
from envfarm.controller.seats import POLICY
from envfarm.core.action import Action, Bash, Finish
from envfarm.core.frozen import Frozen
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.policies.scripted import Scripted
from envfarm.scheduling.admission import Amount
from envfarm.stores.rollout_queue import Share
from envfarm.stores.sql import open_database
from envfarm.telemetry.prometheus import PrometheusObserver
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider
from envfarm.testing.small_service import SmallService, echo

OTHERS = Share(never=frozenset({POLICY}))


class SmallHosts(Frozen):
    """The settings of such a host. The home and the database are those of an opened `SmallService`."""

    home: Path
    database: str
    episodes: int = 8
    """Concurrent episodes per host."""
    actions: int = 1
    """Actions per episode, before it finishes."""
    action_s: float = 0.0
    """Duration of each action."""
    lease_s: float = 1.0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[HostWork]:
        """See `HostMaker.opened`."""

        async def slowly(box: ScriptedBox, request: ExecRequest) -> ExecResult:
            await asyncio.sleep(self.action_s)
            return await echo(box, request)

        script: list[Action] = [*(Bash(command=f"{n}") for n in range(self.actions)), Finish()]
        counts = PrometheusObserver()
        small = SmallService(
            self.home,
            engine=open_database(self.database),
            capacity=Amount(memory_mib=1e9, disk_mib=1e9, cores=1e6, episodes=self.episodes),
            lease_s=self.lease_s,
            provider=ScriptedProvider(answer=slowly),
            policy=lambda _: Scripted(script),
            share=OTHERS,
            observer=counts,
            counts=counts,
        )
        try:
            yield HostWork(small.host, small.bells, small.wire)
        finally:
            await small.close()
