"""Hosts on a real Ray: a host, the driver, and then Ray whole are killed; every outcome comes exactly once.

Ray is started beside the driver, as a farm's operator does, so that each can be killed alone. All that `ray start` begins keeps its session
number, by which it is found.
"""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from envfarm.testing.served import free_port
from envfarm.testing.small_hosts import OTHERS, SmallHosts
from tests.chaos.processes import in_session
from tests.integration.hosts.conftest import TASKS, Trainer
from tests.integration.hosts.truth import check_exactly_once, deaths, hosts_that_hold

ROOT = Path(__file__).parents[3]
MEMBERS, ACTIONS = 4, 6
STARTS = 3
"""Ray gives a node 30 s to come up, which no setting changes; on a busy machine it may need another try."""
UP_S = 60.0
"""After that it does not come up any more: somebody took the port that was free, and Ray goes on asking there."""
ENVIRON = ("env", "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={secrets.token_hex(32)}", "RAY_USAGE_STATS_ENABLED=0")
SMALL = ("--num-cpus=2", "--object-store-memory=80000000", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
pytestmark = [
    pytest.mark.size,
    pytest.mark.slow,
    pytest.mark.timeout(480),
    pytest.mark.skipif(find_spec("ray") is None, reason="pip install 'envfarm[ray]'"),
    pytest.mark.skipif(" " in sys.executable, reason=f"Ray's own client server does not start by a path with a space: {sys.executable}"),
]


def begun(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*ENVIRON, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)


async def kill_session(process: subprocess.Popen[bytes]) -> None:
    while alive := in_session(process.pid):
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
    process.wait()


@asynccontextmanager
async def ray_head() -> AsyncIterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address, and the process whose session is all of Ray; nothing of it is left after the block."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:  # a socket's path has little room
        for _ in range(STARTS):
            port = free_port()
            ports = (f"--port={port}", f"--ray-client-server-port={free_port()}")
            process = begun(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *ports, *SMALL, f"--temp-dir={place}")
            coming = asyncio.ensure_future(asyncio.to_thread(has_begun, process))
            try:
                await asyncio.wait({coming}, timeout=UP_S)
                if coming.done() and coming.result():
                    yield f"127.0.0.1:{port}", process
                    return
            finally:
                await kill_session(process)
                await coming
                assert process.stdout is not None
                process.stdout.close()
        pytest.fail(f"Ray did not start, {STARTS} times")


def has_begun(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return any(b"Ray runtime started" in line for line in process.stdout)


@asynccontextmanager
async def driver(address: str, maker: SmallHosts) -> AsyncIterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A driver in a process of its own, and the processes of its hosts."""
    process = begun(sys.executable, "-m", "tests.integration.hosts.ray_driver", address, maker.model_dump_json())
    assert process.stdout is not None
    saying = asyncio.ensure_future(asyncio.to_thread(process.stdout.readline))
    try:
        await asyncio.wait({saying}, timeout=UP_S)
        if not saying.done():
            pytest.fail(f"the driver has no hosts after {UP_S:g} s")
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
        last.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(last.wait, 60) == 0
    assert deaths(engine) > before
    assert hosts_that_hold(engine) == 0, "hosts drop their leases when they are stopped in good order"
    await check_exactly_once(engine, tmp_path, episodes=TASKS * MEMBERS, actions=ACTIONS)
