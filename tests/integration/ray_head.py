"""A Ray beside the test, as a farm's operator starts one, so that it and what runs on it can be killed alone.

All that `ray start` begins keeps its session number, by which it is found.
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

import pytest

from envfarm.testing.served import free_port
from tests.chaos.processes import in_session

ROOT = Path(__file__).parents[2]
STARTS = 3
"""Ray gives a node 30 s to come up, which no setting changes; on a busy machine it may need another try."""
UP_S = 60.0
"""After that it does not come up any more: somebody took the port that was free, and Ray goes on asking there."""
VARIABLES = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
"""Of Ray and of whoever speaks to it."""
SMALL = ("--num-cpus=2", "--object-store-memory=80000000", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
needed = [
    pytest.mark.size,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(find_spec("ray") is None, reason="pip install 'envfarm[ray]'"),
    pytest.mark.skipif(" " in sys.executable, reason=f"Ray's own client server does not start by a path with a space: {sys.executable}"),
]
"""Marks of tests with a Ray."""


def begun(*command: str, **variables: str) -> subprocess.Popen[bytes]:
    """The program in a session of its own, with Ray's variables."""
    environ = ("env", *(f"{name}={value}" for name, value in {**VARIABLES, **variables}.items()))
    return subprocess.Popen([*environ, *command], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)


async def kill_session(process: subprocess.Popen[bytes]) -> None:
    while alive := in_session(process.pid):
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
    process.wait()


@asynccontextmanager
async def ray_head(**variables: str) -> AsyncIterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its address, and the process whose session is all of Ray; nothing of it is left after the block."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as place:  # a socket's path has little room
        for _ in range(STARTS):
            port = free_port()
            ports = (f"--port={port}", f"--ray-client-server-port={free_port()}")
            command = (str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *ports, *SMALL, f"--temp-dir={place}")
            process = begun(*command, **variables)
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


@asynccontextmanager
async def ray_node(address: str, **variables: str) -> AsyncIterator[None]:
    """A further node of a `ray_head`'s, with other variables."""
    process = begun(
        str(Path(sys.executable).with_name("ray")), "start", f"--address={address}", "--block", *SMALL[:2], SMALL[3], **variables
    )
    try:
        assert await asyncio.to_thread(has_begun, process)
        yield
    finally:
        await kill_session(process)
        assert process.stdout is not None
        process.stdout.close()


def has_begun(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return any(b"Ray runtime started" in line for line in process.stdout)
