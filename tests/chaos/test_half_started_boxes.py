"""A farm that dies while it starts boxes takes them with it, at whatever moment of their start, before anybody collects."""

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing.blobs import MemoryBlobs
from tests.chaos import left_overs, processes

ROOT = Path(__file__).parents[2]
DEATHS = 6
STARTS = """
import asyncio, sys
from pathlib import Path
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.factories import make_environment

async def main():
    provider = LocalProvider(Path(sys.argv[1]), boxd_binary.find(), MemoryBlobs())
    spec = SandboxSpec(environment=make_environment(work_dir="/tmp"), memory_mib=64, disk_mib=16, pids=32)
    async def one():
        while True:
            await (await provider.create(spec)).close()
            print("made", flush=True)
    await asyncio.gather(one(), one(), one())

asyncio.run(main())
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with TemporaryDirectory(prefix="envfarm-chaos-", dir="/var/tmp") as directory:
        yield Path(directory) / "home"


@pytest.mark.slow
def test_boxes_that_are_just_being_started_end_with_their_farm(home: Path) -> None:
    moments = random.Random(4)  # noqa: S311 - to be repeated, not secret
    for _ in range(DEATHS):
        farm = subprocess.Popen([sys.executable, "-c", STARTS, str(home)], cwd=ROOT, stdout=subprocess.PIPE, env={"PATH": os.defpath})
        assert farm.stdout is not None
        farm.stdout.readline()
        met = time.monotonic() + 30
        while not processes.mounting(home):
            assert time.monotonic() < met, "no box was ever there: nothing is shown"
        time.sleep(moments.uniform(0, 0.05))
        farm.kill()
        farm.wait()
        farm.stdout.close()
        end = time.monotonic() + 10
        while processes.mounting(home) and time.monotonic() < end:
            time.sleep(0.05)
        assert processes.mounting(home) == []
    dead = {place.name.partition("-")[0] for place in (home / "boxes").iterdir()}
    assert asyncio.run(collected(home)) > 0
    assert left_overs.in_groups(dead, frozenset()) == []


async def collected(home: Path) -> int:
    """What the next farm of this home finds of the dead, and removes: their directories and control groups."""
    provider = LocalProvider(home, boxd_binary.find(), MemoryBlobs())
    try:
        return await provider.collect_left_overs()
    finally:
        await provider.aclose()
