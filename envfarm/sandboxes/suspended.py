"""Whether something outside a box has suspended its processes: SIGSTOP, a frozen control group, `docker pause`. Reads the kernel's files.

Code in a box cannot do either to boxd, which is the first process of a pid namespace and whose control group no box can write.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
GROUPS = Path("/sys/fs/cgroup")
STOPPED = "T"
"""The state of a process that SIGSTOP stopped. One that a tracer stopped is in another."""


def is_suspended(pids: Iterable[int], *, proc: Path = PROC, groups: Path = GROUPS) -> bool:
    """Whether one of these processes is stopped or in a frozen control group; False if the kernel does not tell."""
    return any(_is_stopped(proc / str(pid)) or _is_frozen(proc / str(pid), groups) for pid in pids)


def _is_stopped(process: Path) -> bool:
    _, _, fields = _text(process / "stat").rpartition(")")
    return fields.split()[:1] == [STOPPED]


def _is_frozen(process: Path, groups: Path) -> bool:
    for line in _text(process / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "freezer" in controllers.split(",") and _text(groups / "freezer" / path.lstrip("/") / "freezer.state").startswith("FR"):
            return True
        if not controllers and "frozen 1" in _text(groups / path.lstrip("/") / "cgroup.events").splitlines():
            return True
    return False


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
