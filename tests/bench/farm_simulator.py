"""The simulator as a process beside a measured farm, playing `farm_work.script`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Simulator(NamedTuple):
    """One that listens."""

    pid: int
    port: int


@contextmanager
def simulator(median_s: float, *more: str) -> Iterator[Simulator]:
    """Start one with these arguments beside the script; it ends with the block. Raises `RuntimeError` where it does not come up."""
    argv = [sys.executable, "-m", "envfarm.testing.boxd_simulator", "--script", "tests.bench.farm_work:script"]
    process = subprocess.Popen([*argv, "--median-s", str(median_s), *more], stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline() if process.stdout else ""
        if not port:
            raise RuntimeError("the simulator does not come up")
        yield Simulator(process.pid, int(port))
    finally:
        process.kill()
        process.wait()
