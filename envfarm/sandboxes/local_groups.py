"""Control groups for local boxes, version 1 or 2, if this process may create them.

Without them only boxd's watchdog keeps the limits. With them their limits are slightly above the watchdog's, so that usually boxd acts
first and can report which limit was hit.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import NamedTuple

from envfarm.core.ids import BoxId

ROOT = Path("/sys/fs/cgroup")
NAME = "envfarm"
MEMORY_SLACK_BYTES = 128 << 20
PIDS_SLACK = 64
PERIOD_US = 100_000
UNIFIED = 2
LEGACY = ("memory", "pids", "cpu", "cpuacct")
REMOVAL_WAITS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class GroupLimits(NamedTuple):
    """Limits of one box. Memory includes what the box keeps in memory as its disk."""

    memory_bytes: int
    pids: int
    cpus: float


class Groups:
    """The parent directories of the boxes' groups, by controller."""

    def __init__(self, parents: dict[str, Path], *, version: int) -> None:
        self._parents = parents
        self.version = version

    @property
    def kept(self) -> frozenset[str]:
        """The available controllers, out of memory, pids, cpu and, in version 1, cpuacct."""
        return frozenset(self._parents)

    def places(self, box: BoxId) -> tuple[str, ...]:
        """The paths of the box's groups, to be recorded before they are created."""
        return tuple(str(parent / box) for parent in dict.fromkeys(self._parents.values()))

    def usage(self, box: BoxId) -> tuple[Path, str] | None:
        """The file that counts the box's CPU time, and where its boxd reads it; None if boxes have no groups of their own."""
        if "cpu" not in self._parents:
            return None
        if self.version == UNIFIED:
            return self._parents["cpu"] / box / "cpu.stat", f"{ROOT}/cpu.stat"
        if "cpuacct" not in self._parents:
            return None
        return self._parents["cpuacct"] / box / "cpuacct.usage", f"{ROOT}/cpuacct/cpuacct.usage"

    def make(self, box: BoxId, limits: GroupLimits) -> tuple[str, ...]:
        """Create the box's groups with limits. Returns the files by which its first thread joins. Failed groups are left out."""
        made = []
        for place in map(Path, self.places(box)):
            try:
                place.mkdir()
                self._limit(place, limits)
            except OSError:
                with contextlib.suppress(OSError):
                    place.rmdir()
                continue
            made.append(str(place / ("cgroup.procs" if self.version == UNIFIED else "tasks")))
        return tuple(made)

    def _limit(self, place: Path, limits: GroupLimits) -> None:
        memory, pids = limits.memory_bytes + MEMORY_SLACK_BYTES, limits.pids + PIDS_SLACK
        quota = max(1000, round(limits.cpus * PERIOD_US))
        files = (
            {"memory.max": memory, "memory.swap.max": 0, "memory.oom.group": 0, "pids.max": pids, "cpu.max": f"{quota} {PERIOD_US}"}
            if self.version == UNIFIED
            else {"memory.limit_in_bytes": memory, "pids.max": pids, "cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": quota}
        )
        for name, value in files.items():
            with contextlib.suppress(FileNotFoundError, PermissionError):  # the controller is not available
                _write(place / name, str(value))


async def remove(groups: tuple[str, ...]) -> None:
    """Kill what is left of a box in its groups, and remove them, retrying while the last processes wait to be reaped.

    Usually nothing is left; this catches what a killed farm was starting. Missing groups are not an error.
    """
    left = [Path(group) for group in groups if NAME in Path(group).parts and Path(group).is_relative_to(ROOT)]
    for wait_s in REMOVAL_WAITS_S:
        for group in left:
            _kill_all(group)
        left = [group for group in left if not _removed(group)]
        if not left:
            return
        await asyncio.sleep(wait_s)


def _kill_all(group: Path) -> None:
    try:
        inside = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return
    for pid in inside:
        if pid > 1:  # 0 is a process of another pid namespace
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def find() -> Groups | None:
    """The groups that this process may create, or None. It tries to create `envfarm` below its own group."""
    own = _own_groups()
    legacy: dict[str, Path] = {
        # Resolved: if two controllers share a hierarchy, each has a link to it, and a box has one group in it.
        c: parent
        for c in LEGACY
        if c in own and (parent := _prepared((ROOT / c).resolve() / own[c].lstrip("/") / NAME))
    }
    if legacy:
        _weigh(legacy.get("cpu"), "cpu.shares", 1024, most=262_144)
        return Groups(legacy, version=1)
    if "" not in own:
        return None
    for above in dict.fromkeys((ROOT / own[""].lstrip("/"), ROOT)):
        controllers = _delegate(above)
        parent = _prepared(above / NAME) if controllers else None
        if parent is not None and (kept := _delegate(parent)):
            _weigh(parent, "cpu.weight", 100, most=10_000)
            return Groups(dict.fromkeys(kept, parent), version=2)
    return None


def _own_groups() -> dict[str, str]:
    """Paths by controller; the empty name is version 2's."""
    own = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            own.update(dict.fromkeys(controllers.split(","), path))
    return own


def _prepared(parent: Path) -> Path | None:
    try:
        parent.mkdir(exist_ok=True)
    except OSError:
        return None
    return parent if os.access(parent / "cgroup.procs", os.W_OK) else None


def _delegate(group: Path) -> frozenset[str]:
    """Enable controllers for the children of a version 2 group. Returns those that are enabled."""
    with contextlib.suppress(OSError):
        offered = (group / "cgroup.controllers").read_text().split()
        wanted = [c for c in ("memory", "pids", "cpu") if c in offered]
        with contextlib.suppress(OSError):
            _write(group / "cgroup.subtree_control", " ".join(f"+{c}" for c in wanted))
        return frozenset((group / "cgroup.subtree_control").read_text().split()) & frozenset(wanted)
    return frozenset()


def _weigh(parent: Path | None, file: str, weight: int, *, most: int) -> None:
    """Make all boxes together weigh as much as one ordinary process per CPU (a group's weight is divided among its CPUs)."""
    if parent is not None:
        with contextlib.suppress(OSError):
            _write(parent / file, str(min(most, weight * len(os.sched_getaffinity(0)))))


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
