"""What the kernel killed for lack of memory, seen from outside the box: the counters of the box's control group.

A group's `oom_kill` counts its processes killed by any out-of-memory killer, including the machine's; whether the group reached its own
limit tells the two apart. Code in a box can raise these counters only by filling memory. If boxes have no group of their own, the counters
are the farm's or the machine's: they show that something was killed, but not what.
"""

import contextlib
import os
from pathlib import Path

from envfarm.core.sandbox import MemoryKills

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")
LEGACY_EVENTS, EVENTS = "memory.oom_control", "memory.events"
LEGACY_LIMITS = ("memory", "memory.memsw")
NEAR_BYTES = 8 << 20
"""A group is killed at its limit if the next few pages do not fit."""


class MemoryWitness:
    """Reads the counters for one box."""

    def __init__(self, pid: int, *, limit_bytes: int, proc: Path = PROC, groups: Path = GROUPS) -> None:
        """`pid` is a process of the box, as seen by this process; `limit_bytes` is the box's memory limit."""
        self._pid = pid
        self._limit_bytes = limit_bytes
        self._proc = proc
        self._groups = groups
        self._looked_up = False
        self._group = ""
        """The directory of the box's memory group; empty if there is none with counters."""
        self._legacy = False
        self._shared = True

    def look_up(self) -> None:
        """Find the box's group, at the first call: when the box has joined it, and before the box has ended."""
        if not self._looked_up:
            self._looked_up = True
            self._group = self._group_of(str(self._pid))
            self._shared = not self._group or self._group == self._group_of(str(os.getpid()))
            self._legacy = bool(self._group) and Path(self._group, LEGACY_EVENTS).exists()

    def read(self) -> MemoryKills:
        """The current counters. All are 0 if the machine has none."""
        self.look_up()
        killed, own_limit, filled = 0, 0, False
        if not self._group:
            killed = _counters(f"{self._proc}/vmstat").get("oom_kill", 0)
        elif self._legacy:
            killed = _counters(f"{self._group}/{LEGACY_EVENTS}").get("oom_kill", 0)
            # Some kernels count no failures at the limit of memory with swap; all report the highest use.
            own_limit = sum(_number(f"{self._group}/{name}.failcnt") for name in LEGACY_LIMITS)
            filled = killed > 0 and any(self._is_filled(name) for name in LEGACY_LIMITS)
        else:
            events = _counters(f"{self._group}/{EVENTS}")
            killed, own_limit = events.get("oom_kill", 0), events.get("oom", 0)
        if self._shared:
            own_limit, filled = 0, False
        return MemoryKills(killed=killed, own_limit=own_limit, filled=filled, shared=self._shared, limit_bytes=self._limit_bytes)

    def _is_filled(self, name: str) -> bool:
        limit = _number(f"{self._group}/{name}.limit_in_bytes")
        return 0 < limit <= _number(f"{self._group}/{name}.max_usage_in_bytes") + NEAR_BYTES

    def _group_of(self, pid: str) -> str:
        for line in _text(f"{self._proc}/{pid}/cgroup").splitlines():
            number, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                place = self._groups / "memory" / path.lstrip("/")
                return str(place) if (place / LEGACY_EVENTS).exists() else ""
            place = self._groups / path.lstrip("/")
            if number == "0" and (place / EVENTS).exists():
                return str(place)
        return ""


def _number(file: str) -> int:
    with contextlib.suppress(ValueError):
        return int(_text(file))
    return 0


def _counters(file: str) -> dict[str, int]:
    pairs = (line.split() for line in _text(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004 - a name and a number


def _text(file: str) -> str:
    """A file of the kernel's; empty if it cannot be read. (Read before every command: `Path` would take four times as long.)"""
    try:
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 - see above
            return opened.read().decode(errors="replace")  # to its end: the kernel gives a page at a time
    except OSError:
        return ""
