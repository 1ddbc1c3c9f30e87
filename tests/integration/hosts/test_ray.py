"""Hosts on a real Ray: a host, the driver, and then Ray whole are killed, or the driver is replaced; every outcome comes exactly once."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from envfarm.testing.small_hosts import OTHERS, SmallHosts
from tests.integration.hosts.conftest import TASKS, Trainer
from tests.integration.hosts.truth import check_exactly_once, deaths, hosts_that_hold
from tests.integration.program.process import PROGRAM
from tests.integration.ray_head import begun, kill_session, needed, ray_head

MEMBERS, ACTIONS = 4, 6
HOSTS_UP_S = 150.0
"""Each is a new process of Ray's that imports the farm: on a busy machine that takes a minute."""
pytestmark = needed


@asynccontextmanager
async def driver(address: str, maker: SmallHosts, release: str = "1") -> AsyncIterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A driver in a process of its own, and the processes of its hosts."""
    process = begun(sys.executable, "-m", "tests.integration.hosts.ray_driver", address, maker.model_dump_json(), release)
    assert process.stdout is not None
    saying = asyncio.ensure_future(asyncio.to_thread(process.stdout.readline))
    try:
        await asyncio.wait({saying}, timeout=HOSTS_UP_S)
        if not saying.done():
            pytest.fail(f"the driver has no hosts after {HOSTS_UP_S:g} s")
        yield process, [int(word) for word in saying.result().split()]
    finally:
        process.kill()
        await saying
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
async def test_a_host_the_driver_and_all_of_ray_are_killed(trainer: Trainer, url: str, tmp_path: Path) -> None:
    maker = SmallHosts(home=tmp_path, database=url, episodes=6, actions=ACTIONS, action_s=3600.0, lease_s=2.0)
    engine: Any = trainer.engine
    async with ray_head() as (address, head):
        async with driver(address, maker) as (first, hosts):
            assert len(set(hosts)) == 2
            await trainer.asks(MEMBERS)
            while (await trainer.queue.load(OTHERS)).playing < TASKS * MEMBERS:  # noqa: ASYNC110 - see below
                await asyncio.sleep(0.05)
            os.kill(hosts[0], signal.SIGKILL)
            first.kill()
        while deaths(engine) == 0:  # noqa: ASYNC110 - what other processes do rings no bell of this test's
            await asyncio.sleep(0.05)
        async with driver(address, maker) as (_, found):
            assert hosts[1] in found, "a driver's death harms no host, and the next driver finds it"
            assert hosts[0] not in found
        before = deaths(engine)
        await kill_session(head)
    quick = maker.model_copy(update={"action_s": 0.1})
    async with ray_head() as (address, _), driver(address, quick) as (last, found):
        assert len(set(found)) == 2
        await trainer.gets()
        last.send_signal(signal.SIGUSR1)
        assert await asyncio.to_thread(last.wait, 60) == 0
    assert deaths(engine) > before
    assert hosts_that_hold(engine) == 0, "hosts drop their leases when they are stopped in good order"
    await check_exactly_once(engine, tmp_path, episodes=TASKS * MEMBERS, actions=ACTIONS)


@pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
async def test_hosts_outlive_their_driver_and_the_next_release_replaces_them(trainer: Trainer, url: str, tmp_path: Path) -> None:
    slow = SmallHosts(home=tmp_path, database=url, episodes=6, actions=ACTIONS, action_s=3600.0, lease_s=60.0)
    quick = slow.model_copy(update={"action_s": 0.1})
    engine: Any = trainer.engine
    async with ray_head() as (address, _):
        async with driver(address, slow, "1") as (first, old):
            await trainer.asks(MEMBERS)
            while (await trainer.queue.load(OTHERS)).playing < TASKS * MEMBERS:  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.05)
            first.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait, 60) == 0
        assert hosts_that_hold(engine) == 2
        assert (await trainer.queue.load(OTHERS)).playing == TASKS * MEMBERS
        async with driver(address, slow, "1") as (again, found):
            assert sorted(found) == sorted(old), "the next driver takes them over"
            again.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(again.wait, 60) == 0
        async with driver(address, quick, "2") as (last, new):
            assert not set(new) & set(old)
            await trainer.gets()
            last.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(last.wait, 60) == 0
        assert hosts_that_hold(engine) == 2
        leaving = begun(*PROGRAM, "hosts", "--on", "ray", "--address", address, "--drain-node")
        await asyncio.to_thread(leaving.communicate)
        assert leaving.returncode == 0
        assert hosts_that_hold(engine) == 0, "they let go before their node ends"
    assert deaths(engine) == 0, "all was handed over in good order"
    await check_exactly_once(engine, tmp_path, episodes=TASKS * MEMBERS, actions=ACTIONS)
