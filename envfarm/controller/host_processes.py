"""Hosts as plain processes of this machine: started, watched and ended by the driver. No cluster, no daemon.

Each is `python -m envfarm.controller.host_process`, which gets its maker as a pickle on its standard input. The pipe stays open for as long
as the driver lives: when it ends, however it ends, its hosts let go and end as well.
"""

import asyncio
import logging
import os
import pickle
import signal
import sys
from asyncio.subprocess import PIPE, Process

from envfarm.controller.host_work import HostMaker
from envfarm.core.errors import UsageError

log = logging.getLogger(__name__)
WRONG_USE = 2
"""What a host's process ends with when its settings cannot be right."""
LET_GO = signal.SIGTERM
DRAIN = signal.SIGUSR1


class ProcessFleet:
    """Implements `Fleet`."""

    lasting = False

    def __init__(self, maker: HostMaker) -> None:
        self._maker = pickle.dumps(maker)
        self._processes: dict[str, Process] = {}
        self._leaving: dict[str, Process] = {}
        self._changed = asyncio.Event()
        self._watching: set[asyncio.Task[None]] = set()
        self._wrong_use = False

    async def hosts(self, *, leaving: bool = False) -> tuple[str, ...]:
        """See `Fleet.hosts`."""
        if self._wrong_use:
            raise UsageError("a host cannot begin with these settings", hint="it said why, above")
        self._changed.clear()
        return (*self._processes, *(self._leaving if leaving else ()))

    async def outdated(self) -> str | None:
        """See `Fleet.outdated`: all are this driver's own children."""
        return None

    async def start(self) -> str:
        """See `Fleet.start`."""
        command = (sys.executable, "-m", "envfarm.controller.host_process")
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, start_new_session=True)
        name = f"host-{process.pid}"
        self._processes[name] = process
        watching = asyncio.create_task(self._watch(name, process))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        assert process.stdin is not None  # noqa: S101 - it was asked for
        process.stdin.write(self._maker)
        log.info("%s is started", name)
        return name

    async def drain(self, host: str, *, grace_s: float, others_go_on: bool = False) -> None:  # noqa: ARG002 - as said
        """See `Fleet.drain`. A process knows two ways: now, or when all it plays is over; it closes its boxes."""
        process = self._processes.pop(host, None) or self._leaving.get(host)
        if process is None or process.returncode is not None:
            return
        self._leaving[host] = process
        if grace_s == float("inf"):
            process.send_signal(DRAIN)
            return
        if grace_s > 0:
            process.send_signal(DRAIN)
            asyncio.get_running_loop().call_later(grace_s, _let_go, process)
        else:
            _let_go(process)

    async def change(self) -> None:
        """See `Fleet.change`."""
        await self._changed.wait()

    async def gone(self) -> None:
        """See `Fleet.gone`."""
        while self._watching:
            await asyncio.wait(set(self._watching))

    async def _watch(self, name: str, process: Process) -> None:
        status = await process.wait()
        self._wrong_use = self._wrong_use or status == WRONG_USE
        if self._processes.pop(name, None) is not None:
            log.warning("%s ended with %d", name, status)
        self._leaving.pop(name, None)
        self._changed.set()


def _let_go(process: Process) -> None:
    if process.returncode is None:
        os.kill(process.pid, LET_GO)
