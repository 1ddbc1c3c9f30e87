"""What every process that plays episodes does: a host, the wire of its bells to other processes, its engines. Run by `serve`, host
processes and Ray's actors; made by a `HostMaker`, which `envfarm.wiring_hosts` gives.
"""

import asyncio
import logging
import resource
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from envfarm.controller.bells import Bells
from envfarm.controller.engine_list import EngineList
from envfarm.controller.host import Host, HostView
from envfarm.core.errors import EnvfarmError, UsageError
from envfarm.core.retry import backoff_s
from envfarm.stores.bell_wire import BellWire

log = logging.getLogger(__name__)
NOT_YET = HostView(name="", live=0, draining=False)


@dataclass(frozen=True, slots=True)
class HostWork:
    """Ready to be run."""

    host: Host
    bells: Bells
    wire: BellWire
    engines: EngineList | None = None
    """Followed where there is a model."""

    async def run(self) -> None:
        """Play until this is cancelled, or the host is drained. Raises as `Host.run` does."""
        allow_open_files()
        beside = [asyncio.create_task(self.wire.run(self.bells.rung_elsewhere))]
        if self.engines is not None:
            beside.append(asyncio.create_task(self.engines.run()))
        try:
            await self.host.run()
        finally:
            for task in beside:
                task.cancel()
            for task in beside:
                with suppress(asyncio.CancelledError):
                    await task


def allow_open_files() -> None:
    """As many open files as this process may have: each box that is played holds a connection, and shells allow 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class HostMaker(Protocol):
    """Makes a host in the process that it is called in. Pickles, and so may be sent to that process."""

    def opened(self) -> AbstractAsyncContextManager[HostWork]:
        """A host that is ready to be run until the block ends. Raises `EnvfarmError`s."""
        ...


class HostLife:
    """The one host of a process that does nothing else. While the farm's stores cannot be had it waits for them."""

    def __init__(self, maker: HostMaker) -> None:
        self._maker = maker
        self._work: HostWork | None = None
        self._grace_s: float | None = None

    @property
    def view(self) -> HostView:
        """How the host stands."""
        return self._work.host.view if self._work is not None else NOT_YET

    def drain(self, *, grace_s: float = float("inf"), others_go_on: bool = False) -> None:
        """See `Host.drain`. 0 lets go of everything now."""
        self._grace_s = grace_s if self._grace_s is None else min(self._grace_s, grace_s)
        if self._work is not None:
            self._work.host.drain(grace_s=grace_s, others_go_on=others_go_on)

    async def run(self) -> None:
        """Play until drained. Raises `UsageError` for settings that cannot be right, and bugs."""
        tries = 0
        while self._grace_s is None:
            try:
                async with self._maker.opened() as work:
                    if self._grace_s is not None:  # it was told to end while it was being made, and nobody will tell it again
                        return
                    self._work = work
                    await work.run()
                    return
            except UsageError:
                raise
            except EnvfarmError as e:
                tries += 1
                log.warning("the host cannot begin: %s", e)
                await asyncio.sleep(backoff_s(tries, first_s=0.5, longest_s=15.0))
            finally:
                self._work = None
