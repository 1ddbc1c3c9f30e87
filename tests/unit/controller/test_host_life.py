"""The one host of a process: told to end at any moment, it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from envfarm.controller.host_work import HostLife, HostWork
from envfarm.testing.small_service import SmallService


async def test_a_host_that_is_cancelled_while_it_takes_its_lease_leaves_none(tmp_path: Path) -> None:
    small = SmallService(tmp_path)
    await small.open(tasks=0)
    loop, running = asyncio.get_running_loop(), asyncio.create_task(small.host.run())

    def look(*about: object) -> None:
        if "INTO leases" in str(about[2]):
            loop.call_soon_threadsafe(running.cancel)

    event.listen(small.engine, "before_cursor_execute", look)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await small.leases.hosts() == ()
    await small.close()


class SlowMaker:
    """Makes a host when it is told to, and says that it has begun."""

    def __init__(self, small: SmallService) -> None:
        self._small = small
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[HostWork]:
        self.begun.set()
        await self.go_on.wait()
        yield HostWork(self._small.host, self._small.bells, self._small.wire)


@pytest.mark.parametrize("grace_s", [0.0, float("inf")], ids=["let go", "drain"])
async def test_a_host_that_is_told_to_end_while_it_is_made_ends(tmp_path: Path, grace_s: float) -> None:
    small = SmallService(tmp_path)
    await small.open(tasks=0)
    maker = SlowMaker(small)
    life = HostLife(maker)
    running = asyncio.create_task(life.run())
    await maker.begun.wait()
    life.drain(grace_s=grace_s)  # all that a dead driver leaves is said once
    maker.go_on.set()
    await asyncio.wait_for(running, 5)
    assert await small.leases.hosts() == (), "it holds nothing"
    await small.close()
