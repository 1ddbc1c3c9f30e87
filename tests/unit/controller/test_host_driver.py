"""Which hosts a driver starts, replaces and leaves alone, over a fleet that is a list of names."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from envfarm.cli.hosts import hosts, scale_of, until_stopped
from envfarm.controller.host_driver import HostDriver
from envfarm.controller.system_clock import SystemClock
from envfarm.scheduling.host_count import Scale
from envfarm.stores.rollout_queue import Load

INF = float("inf")


class ListedFleet:
    """Hosts of release `b`, and what was there of others. A drained one is gone when the test says so, and a new one plays likewise."""

    def __init__(self, *old: str, lasting: bool = True) -> None:
        self.lasting = lasting
        self.there = list(old)
        self.drained: list[tuple[str, float]] = []
        self.left_to_others: set[str] = set()
        self.not_yet: set[str] = set()
        self.news = asyncio.Condition()
        self.asked = 0
        """How often the driver asked whom to replace: once a turn."""
        self._made = 0

    async def hosts(self, *, leaving: bool = False) -> tuple[str, ...]:
        return tuple(name for name in self.there if leaving or name not in dict(self.drained))

    async def outdated(self) -> str | None:
        self.asked += 1
        await self._tell()
        old = [name for name in self.there if not name.startswith("b")]
        busy = self.not_yet or any(name in dict(self.drained) for name in old)
        return None if busy or not old else old[0]

    async def start(self) -> str:
        self._made += 1
        name = f"b{self._made}"
        self.there.append(name)
        self.not_yet.add(name)
        await self._tell()
        return name

    async def drain(self, host: str, *, grace_s: float, others_go_on: bool = False) -> None:
        self.drained.append((host, grace_s))
        self.left_to_others |= {host} if others_go_on else set()
        await self._tell()

    async def change(self) -> None:
        async with self.news:
            await self.news.wait()

    async def gone(self) -> None:
        async with self.news:
            await self.news.wait_for(lambda: not self.there)

    async def until(self, *, drained: int = 0, made: int = 0, asked: int = 0) -> None:
        async with self.news:
            await self.news.wait_for(lambda: len(self.drained) >= drained and self._made >= made and self.asked >= asked)

    async def ends(self, *hosts: str) -> None:
        self.there = [name for name in self.there if name not in hosts]
        await self._tell()

    async def plays(self, host: str) -> None:
        self.not_yet.discard(host)
        await self._tell()

    async def _tell(self) -> None:
        async with self.news:
            self.news.notify_all()


async def idle() -> Load:
    return Load(waiting=0, playing=0)


def driver_of(fleet: ListedFleet, count: int) -> HostDriver:
    return HostDriver(fleet, Scale(least=count, most=count, per_host=1), idle, SystemClock(), replace_grace_s=60.0, recheck_s=0.01)


@asynccontextmanager
async def signalled(fleet: ListedFleet, count: int = 1) -> AsyncIterator[asyncio.Task[None]]:
    """A driver that hears this process's signals, once its hosts are there."""
    stopping = asyncio.create_task(until_stopped(driver_of(fleet, count), grace_s=5.0))
    await fleet.until(made=count)
    yield stopping
    await stopping


async def test_hosts_of_another_release_are_replaced_one_by_one() -> None:
    fleet = ListedFleet("a1", "a2")
    driving = asyncio.create_task(driver_of(fleet, 2).run())
    await fleet.until(drained=1, made=1)
    assert fleet.drained == [("a1", 60.0)], "one host less at a time, and its place is taken at once"
    await fleet.ends("a1")
    await fleet.plays("b1")
    await fleet.until(drained=2, made=2)
    assert fleet.drained[1] == ("a2", 60.0)
    assert fleet.left_to_others == {"a1", "a2"}
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


async def test_a_release_whose_hosts_do_not_begin_replaces_no_more() -> None:
    fleet = ListedFleet("a1", "a2")
    driving = asyncio.create_task(driver_of(fleet, 2).run())
    await fleet.until(drained=1, made=1)
    await fleet.ends("a1")
    await fleet.until(asked=fleet.asked + 3)
    assert fleet.there == ["a2", "b1"]
    assert fleet.drained == [("a1", 60.0)]
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


async def test_no_hosts_are_wanted_and_those_that_are_there_play_to_their_end() -> None:
    with hosts.make_context("hosts", ["--on", "ray", "--address", "auto", "--count", "0"]) as asked:
        scale = scale_of(asked.params)
    assert (scale.least, scale.most) == (0, 0)
    fleet = ListedFleet("b1", "b2")
    driving = asyncio.create_task(driver_of(fleet, scale.most).run())
    await fleet.until(drained=2)
    assert fleet.drained == [("b1", INF), ("b2", INF)]
    assert not fleet.left_to_others
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


async def test_the_boxes_of_hosts_that_nobody_replaces_are_left_to_nobody() -> None:
    fleet = ListedFleet("a1")
    driving = asyncio.create_task(driver_of(fleet, 0).run())
    await fleet.until(drained=1)
    assert not fleet.left_to_others
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_driver_that_is_stopped_leaves_hosts_that_last(number: signal.Signals) -> None:
    fleet = ListedFleet()
    async with signalled(fleet):
        os.kill(os.getpid(), number)
    assert fleet.there == ["b1"]
    assert fleet.drained == []


async def test_hosts_that_do_not_outlive_their_driver_let_go_within_the_grace() -> None:
    fleet = ListedFleet(lasting=False)
    async with signalled(fleet):
        os.kill(os.getpid(), signal.SIGTERM)
        await fleet.until(drained=1)
        await fleet.ends("b1")
    assert fleet.drained == [("b1", 5.0)]


async def test_a_drain_waits_for_episodes_until_a_signal_says_otherwise() -> None:
    fleet = ListedFleet()
    async with signalled(fleet):
        os.kill(os.getpid(), signal.SIGUSR1)
        await fleet.until(drained=1)
        assert fleet.drained == [("b1", INF)]
        os.kill(os.getpid(), signal.SIGTERM)
        await fleet.until(drained=2)
        await fleet.ends("b1")
    assert fleet.drained[1] == ("b1", 0.0)
