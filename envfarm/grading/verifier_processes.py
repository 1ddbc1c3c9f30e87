"""Processes of the verifier archive: runs a test command as an unprivileged user, and kills what it left running. Python 3.8 on.

It keeps only the end of a command's output. Of the files that a command writes it reads only reports.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from envfarm.grading.procedure import LOG_TAIL, CommandOutcome, PreparedCommand
from envfarm.grading.reports.statuses import REPORT_BYTES_MAX

AGENT = 1000
POLL_S = 0.05
CHUNK = 1 << 16
PIPE_BYTES = 1 << 20
"""The most that a pipe can still hold when nobody writes to it any more."""
STOP_ROUNDS = 20


class Process(NamedTuple):
    """A process. A pid alone could be reused."""

    pid: int
    start_ticks: int


def processes_to_spare(*, in_place: bool) -> frozenset[Process]:
    """The processes of the agent's user that must not be killed: the container's own. To be called before the first command.

    With `in_place` the agent may have left processes, too: then only those count that started within a second of the container.
    """
    together = _start_ticks(1) + os.sysconf("SC_CLK_TCK")
    return frozenset(p for p in _agents_processes() if p.pid == 1 or not in_place or p.start_ticks < together)


def run(command: PreparedCommand, environment: Mapping[str, str], work_dir: str, spared: Collection[Process]) -> CommandOutcome:
    """Run a test command as the agent's user, kill what it left, take its report. Raises `OSError` if it cannot be started.

    It sees the environment's variables as in the farm's boxes, and none of this process.
    """
    started = time.monotonic()
    with subprocess.Popen(
        command.argv,
        cwd=work_dir,
        env={**environment, **command.variables(environment)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=_become_agent,  # noqa: PLW1509 - no thread runs here
    ) as process:
        tail, timed_out = _wait_for(process, command.timeout_s)
        left = stop_others(spared, session=process.pid)
        process.kill()
        tail = _read_rest(process, tail)
    code = process.returncode
    return CommandOutcome(
        exit_code=code if code >= 0 and not timed_out else None,
        report=None if timed_out else _report(command.report_path),
        timed_out=timed_out,
        duration_s=time.monotonic() - started,
        log_tail=tail.decode("utf-8", "replace"),
        note=f"{len(left)} processes that the command started could not be killed" if left else "",
    )


def stop_others(spared: Collection[Process], session: int | None = None) -> list[int]:
    """Kill a command's session and, as root, all processes of the agent's user that are not spared. Returns the pids still alive."""
    if session is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)
    if os.geteuid() != 0:
        return []
    alive: list[int] = []
    for _ in range(STOP_ROUNDS):
        alive = [process.pid for process in _agents_processes() if process not in spared]
        if not alive:
            break
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)
    return alive


def _wait_for(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[bytes, bool]:
    """The end of its output, and whether it timed out. Background processes are not waited for."""
    pipe = _pipe(process)
    end = time.monotonic() + timeout_s
    tail = b""
    while process.poll() is None:
        left_s = end - time.monotonic()
        if left_s <= 0:
            return tail, True
        if not select.select([pipe], [], [], min(left_s, POLL_S))[0]:
            continue
        chunk = os.read(pipe, CHUNK)
        tail = (tail + chunk)[-LOG_TAIL:]
        if not chunk:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=left_s)
    return tail, False


def _read_rest(process: subprocess.Popen[bytes], tail: bytes) -> bytes:
    """The tail, with what was still in the pipe."""
    pipe = _pipe(process)
    os.set_blocking(pipe, False)
    for _ in range(PIPE_BYTES // CHUNK):
        try:
            chunk = os.read(pipe, CHUNK)
        except BlockingIOError:
            break
        if not chunk:
            break
        tail = (tail + chunk)[-LOG_TAIL:]
    return tail


def _pipe(process: subprocess.Popen[bytes]) -> int:
    if process.stdout is None:
        raise ValueError("a command without a pipe")
    return process.stdout.fileno()


def _become_agent() -> None:
    os.setsid()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(AGENT)
        os.setuid(AGENT)


def _agents_processes() -> list[Process]:
    return [Process(int(name), _start_ticks(int(name))) for name in os.listdir("/proc") if name.isdigit() and _runs_as_agent(name)]


def _runs_as_agent(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            dead = b") Z " in stream.read()
        return not dead and os.stat(f"/proc/{pid}").st_uid == AGENT
    except OSError:
        return False


def _start_ticks(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            return int(stream.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return sys.maxsize


def _report(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(REPORT_BYTES_MAX + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
