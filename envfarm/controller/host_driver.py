"""Keeps hosts alive elsewhere, as many as are wanted, and takes them down in good order. Called by `envfarm hosts`.

It plays nothing and decides nothing about episodes: whether it lives or not, its hosts' leases stand in the database. Where hosts live is
a `Fleet`'s: plain processes, or Ray's actors.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from envfarm.core.protocols import Clock
from envfarm.core.retry import backoff_s
from envfarm.scheduling.host_count import Calm, Scale, host_count
from envfarm.stores.rollout_queue import Load

log = logging.getLogger(__name__)
SHORT_LIFE_S = 20.0
"""A host that dies sooner than this after its start is started again with a wait."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0


class Fleet(Protocol):
    """Hosts in other processes."""

    @property
    def lasting(self) -> bool:
        """Whether hosts go on without their driver, and the next driver finds them."""
        ...

    async def hosts(self, *, leaving: bool = False) -> tuple[str, ...]:
        """Those that are there and not draining (with `leaving`, those too); whoever is to stay longest comes first.

        Raises `ClusterError`, and `UsageError` where none can ever begin.
        """
        ...

    async def outdated(self) -> str | None:
        """The host to replace now: one of another release, while no other is being replaced and all of this release play. Raises as
        `hosts` does.
        """
        ...

    async def start(self) -> str:
        """One more; its name. Raises as `hosts` does."""
        ...

    async def drain(self, host: str, *, grace_s: float, others_go_on: bool = False) -> None:
        """See `Host.drain`; nothing happens where it is gone already."""
        ...

    async def change(self) -> None:
        """Returns when a host has ended, whatever it died of. One that never does may be waited for with a time limit."""
        ...

    async def gone(self) -> None:
        """Returns when the last host, draining ones included, has ended."""
        ...


class HostDriver:
    """Drives one fleet."""

    def __init__(
        self,
        fleet: Fleet,
        scale: Scale,
        load: Callable[[], Awaitable[Load]],
        clock: Clock,
        *,
        replace_grace_s: float = float("inf"),
        recheck_s: float = 5.0,
        mine: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """A host of another release gets `replace_grace_s` for what it plays. `mine` is asked at every turn, and raises when another driver
        has the fleet by now.
        """
        self._fleet = fleet
        self._scale = scale
        self._load = load
        self._clock = clock
        self._replace_grace_s = replace_grace_s
        self._recheck_s = recheck_s
        self._mine = mine
        self._calm: Calm | None = None
        self._short_lives = 0
        self._started_at_s: dict[str, float] = {}

    @property
    def lasting(self) -> bool:
        """See `Fleet.lasting`."""
        return self._fleet.lasting

    async def run(self) -> None:
        """Keep them until this is cancelled; hosts are then left as they are. Raises as `Fleet.hosts` does."""
        while True:
            if self._mine is not None:
                await self._mine()
            await self._turn()
            try:
                async with asyncio.timeout(self._recheck_s):
                    await self._fleet.change()
            except TimeoutError:
                pass

    async def stop(self, *, grace_s: float) -> None:
        """Have every host end: at once, letting go of what it plays, or when what it plays is over."""
        hosts = await self._fleet.hosts(leaving=True)
        await asyncio.gather(*(self._fleet.drain(host, grace_s=grace_s) for host in hosts))
        await self._fleet.gone()

    async def _turn(self) -> None:
        if old := await self._fleet.outdated():
            grace_s = self._replace_grace_s
            log.warning("%s is of another release: it has %g s for what it plays, and another one takes its place", old, grace_s)
            await self._fleet.drain(old, grace_s=grace_s, others_go_on=self._scale.most > 0)
        hosts = await self._fleet.hosts()
        await self._wait_after_short_lives(hosts)
        decision = host_count(await self._episodes(), len(hosts), self._scale, calm=self._calm, now_s=self._clock.monotonic())
        self._calm = decision.calm
        for _ in range(decision.wanted - len(hosts)):
            host = await self._fleet.start()
            self._started_at_s[host] = self._clock.monotonic()
        for host in hosts[decision.wanted :]:
            log.warning("%s is not needed any more: it plays what it has, and ends", host)
            self._started_at_s.pop(host, None)
            await self._fleet.drain(host, grace_s=float("inf"))

    async def _episodes(self) -> int:
        if self._scale.least == self._scale.most:
            return 0  # nobody needs to know
        load = await self._load()
        return load.waiting + load.playing

    async def _wait_after_short_lives(self, hosts: tuple[str, ...]) -> None:
        now_s = self._clock.monotonic()
        dead = {host: at_s for host, at_s in self._started_at_s.items() if host not in hosts}
        for host in dead:
            del self._started_at_s[host]
            log.warning("%s is dead; another one is started", host)
        if any(now_s - at_s < SHORT_LIFE_S for at_s in dead.values()):
            self._short_lives += 1
            await asyncio.sleep(backoff_s(self._short_lives, first_s=FIRST_WAIT_S, longest_s=LONGEST_WAIT_S))
        elif dead or all(now_s - at_s > SHORT_LIFE_S for at_s in self._started_at_s.values()):
            self._short_lives = 0
