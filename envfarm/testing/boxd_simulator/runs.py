"""The runs of one simulated box: ids never run twice, results are kept for a while, and time passes.

There are no processes or threads: a run is a few callbacks of the event loop.
"""

import asyncio
import base64
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from envfarm.testing.boxd_simulator.tree import Refused
from envfarm.testing.boxd_simulator.words import Exited, Signalled, Steps

KEPT_RESULTS = 256
DEFAULT_OUTPUT = 1 << 20
SIGKILL = 9
RSS_BYTES = 9 << 20
"""The memory that boxd reports for the smallest program."""
_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def check_id(exec_id: object) -> str:
    """The id, if valid; else raises `Refused`."""
    if not isinstance(exec_id, str) or not _ID.fullmatch(exec_id):
        raise Refused(400, "bad_request", "id: 1 to 128 letters, digits and ._:-")
    return exec_id


@dataclass(slots=True, eq=False)
class Run:
    """The run of one id."""

    exec_id: str
    output_bytes: int = DEFAULT_OUTPUT
    more: dict[str, Any] = field(default_factory=dict)
    """Additional fields of the answer."""
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    running: bool = True
    exit_code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    exited: bool = False
    """Whether its shell exited with it."""
    began: float = 0.0
    took_s: float = 0.0
    steps: Steps | None = None
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    ended: Callable[["Run"], None] = lambda _: None
    """Called at its end, before waiting requests are answered."""
    waiting: list[Callable[[], None]] = field(default_factory=list)
    """Called when there is new output or the end."""

    def news(self) -> None:
        """Notify waiting requests."""
        waiting, self.waiting = self.waiting, []
        for tell in waiting:
            tell()

    def result(self) -> dict[str, Any]:
        """The answer in boxd's form, at the end or while it runs."""
        said = self._status()
        if not self.running:
            said |= {**_stream("stdout", self._kept(self.stdout)), **_stream("stderr", self._kept(self.stderr)), **self.more}
        return said

    def since(self, stdout_at: int, stderr_at: int) -> dict[str, Any]:
        """The answer with the output from these offsets on."""
        said = self._status()
        for name, at, written in (("stdout", stdout_at, self.stdout), ("stderr", stderr_at, self.stderr)):
            kept_from = max(0, min(at, len(written)))
            said |= _stream(name, bytes(written[kept_from:]))
            said |= {f"{name}_offset": kept_from, f"{name}_next": len(written)}
        return said

    def has_news(self, stdout_at: int, stderr_at: int) -> bool:
        """Whether `since` would have anything new."""
        return not self.running or len(self.stdout) > stdout_at or len(self.stderr) > stderr_at

    def _kept(self, written: bytearray) -> bytes:
        if len(written) <= self.output_bytes:
            return bytes(written)
        tail = self.output_bytes // 2
        return bytes(written[: self.output_bytes - tail] + written[len(written) - tail :])

    def _status(self) -> dict[str, Any]:
        return {
            "id": self.exec_id,
            "running": self.running,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "timed_out": self.timed_out,
            "stdout_bytes": len(self.stdout),
            "stderr_bytes": len(self.stderr),
            "truncated": max(len(self.stdout), len(self.stderr)) > self.output_bytes,
            "duration_s": self.took_s,
            "cpu_s": 0.0,
            "max_rss_bytes": RSS_BYTES,
            "limit_hit": "",
        }


class Runs:
    """All runs of a box."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._forgotten: set[str] = set()
        self._live: dict[str, Run] = {}
        self.started = 0

    def find(self, exec_id: str) -> Run | None:
        """The run of this id; None if there never was one. Raises `Refused` if it is forgotten."""
        if exec_id in self._forgotten:
            raise Refused(410, "forgotten", "the result of this exec is no longer kept")
        return self._runs.get(exec_id)

    def start(self, run: Run, steps: Steps, timeout_s: float | None) -> None:
        """Start a run with a new id."""
        loop = asyncio.get_running_loop()
        self.started += 1
        self._runs[run.exec_id] = self._live[run.exec_id] = run
        run.began, run.steps = loop.time(), steps
        if timeout_s is not None:
            run.timers.append(loop.call_later(timeout_s, self._expire, run))
        self._go_on(run)

    def kill(self, run: Run, signal: int = SIGKILL) -> bool:
        """End a run by a signal. Returns whether it was running."""
        if not run.running:
            return False
        self._end(run, signal=signal)
        return True

    def kill_all(self) -> int:
        """End all runs. Returns how many there were."""
        return sum([self.kill(run) for run in list(self._live.values())])

    def _go_on(self, run: Run) -> None:
        if run.steps is None or not run.running:
            return
        try:
            seconds = next(run.steps)
        except StopIteration as e:
            self._end(run, exit_code=e.value)
        except Exited as e:
            run.exited = True
            self._end(run, exit_code=e.status)
        except Signalled as e:
            run.exited = True
            self._end(run, signal=e.number)
        except Refused as e:
            run.stderr += f"{e.message}\n".encode()
            self._end(run, exit_code=1)
        else:
            run.timers.append(asyncio.get_running_loop().call_later(seconds, self._go_on, run))

    def _expire(self, run: Run) -> None:
        run.timed_out = True
        self.kill(run)

    def _end(self, run: Run, *, exit_code: int | None = None, signal: int | None = None) -> None:
        run.running, run.exit_code, run.signal = False, exit_code, signal
        run.took_s = asyncio.get_running_loop().time() - run.began
        for timer in run.timers:
            timer.cancel()
        run.timers.clear()
        if run.steps is not None:
            run.steps.close()
            run.steps = None
        del self._live[run.exec_id]
        while len(self._runs) - len(self._live) > KEPT_RESULTS:
            oldest = next(name for name, kept in self._runs.items() if not kept.running)
            del self._runs[oldest]
            self._forgotten.add(oldest)
        run.ended(run)
        run.news()


def _stream(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(data).decode()}
