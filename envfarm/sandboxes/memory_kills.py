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
    """Reads the counters for one box. Its group is looked up at the first reading, when the box has joined it."""

    def __init__(self, pid: int, *, limit_bytes: int, proc: Path = PROC, groups: Path = GROUPS) -> None:
        """`pid` is a process of the box, as seen by this process; `limit_bytes` is the box's memory limit."""
        self._pid = pid
        self._limit_bytes = limit_bytes
        self._proc = proc
        self._groups = groups
        self._looked_up = False
        self._group: Path | None = None
        self._shared = True

    def read(self) -> MemoryKills:
        """The current counters. All are 0 if the machine has none."""
        if not self._looked_up:
            self._group = self._group_of(str(self._pid))
            self._shared = self._group is None or self._group == self._group_of(str(os.getpid()))
            self._looked_up = True
        killed, own_limit, filled = 0, 0, False
        if self._group is None:
            killed = _counters(self._proc / "vmstat").get("oom_kill", 0)
        elif (legacy := self._group / LEGACY_EVENTS).exists():
            killed = _counters(legacy).get("oom_kill", 0)
            # Some kernels count no failures at the limit of memory with swap; all report the highest use.
            own_limit = sum(_number(self._group / f"{name}.failcnt") for name in LEGACY_LIMITS)
            filled = any(self._is_filled(name) for name in LEGACY_LIMITS)
        else:
            events = _counters(self._group / EVENTS)
            killed, own_limit = events.get("oom_kill", 0), events.get("oom", 0)
        if self._shared:
            own_limit, filled = 0, False
        return MemoryKills(killed=killed, own_limit=own_limit, filled=filled, shared=self._shared, limit_bytes=self._limit_bytes)

    def _is_filled(self, name: str) -> bool:
        group = self._group or Path()
        limit = _number(group / f"{name}.limit_in_bytes")
        return 0 < limit <= _number(group / f"{name}.max_usage_in_bytes") + NEAR_BYTES

    def _group_of(self, pid: str) -> Path | None:
        """The directory of a process's memory group; None if there is no group with counters."""
        with contextlib.suppress(OSError):
            for line in (self._proc / pid / "cgroup").read_text().splitlines():
                number, controllers, path = line.split(":", 2)
                if "memory" in controllers.split(","):
                    place = self._groups / "memory" / path.lstrip("/")
                    return place if (place / LEGACY_EVENTS).exists() else None
                place = self._groups / path.lstrip("/")
                if number == "0" and (place / EVENTS).exists():
                    return place
        return None


def _number(file: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(file.read_text())
    return 0


def _counters(file: Path) -> dict[str, int]:
    with contextlib.suppress(OSError):
        pairs = (line.split() for line in file.read_text().splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004 - a name and a number
    return {}
