"""The program in a process of its own, as a person starts it, and what that person then sees."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAM = (sys.executable, "-c", "from envfarm.cli.main import main; main()")


@dataclass(frozen=True)
class Told:
    """What a person sees."""

    status: int
    out: str
    err: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.err + self.out, self.err
        assert "Exception ignored" not in self.err, self.err

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line

    @property
    def hint(self) -> str:
        return next(line for line in self.err.splitlines() if line.startswith("hint: "))


def arguments_of(home: Path, arguments: Sequence[str], **variables: str) -> list[str]:
    return ["env", f"ENVFARM_HOME={home}", *(f"{k}={v}" for k, v in variables.items()), *PROGRAM, *arguments]


def envfarm(home: Path, *arguments: object, **variables: str) -> Told:
    return within(120, home, *arguments, **variables)


def within(timeout_s: float, home: Path, *arguments: object, **variables: str) -> Told:
    argv = arguments_of(home, [str(a) for a in arguments], **variables)
    done = subprocess.run(argv, capture_output=True, check=False, timeout=timeout_s, stdin=subprocess.DEVNULL)
    return Told(done.returncode, done.stdout.decode(), done.stderr.decode())


async def in_thread(home: Path, *arguments: object) -> Told:
    """For tests whose event loop serves what the program asks."""
    return await asyncio.to_thread(envfarm, home, *arguments)


@contextmanager
def started(home: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program at work, in a group of processes of its own, as a terminal gives it one."""
    argv = arguments_of(home, arguments, **variables)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def read_until(process: subprocess.Popen[bytes], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line.decode():
            return
    pytest.fail(f"it ended before it said {words!r}")


def press_ctrl_c(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> Told:
    """Or end it by another signal."""
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    return Told(process.returncode, out.decode(), err.decode())
