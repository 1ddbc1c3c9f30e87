"""The process table as the harness sees it: every descendant, orphans included, and who still holds on to a farm's home.

The harness is its descendants' reaper (a "child subreaper"): what a killed farm leaves becomes the harness's own child, so that nothing
has to be recognised by its name, and farms of other people on the machine do not matter.
"""

import ctypes
import os
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36


class Process(NamedTuple):
    """One row of the process table."""

    pid: int
    parent: int
    state: str
    started: int
    command: str


def in_session(number: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = place.read_text().rpartition(")")[2].split()[:4]
            if int(session) == number and state != "Z":
                found.append(int(place.parent.name))
    return found


def become_reaper() -> None:
    """Have orphans among this process's descendants become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def look_up(pid: int) -> Process | None:
    """A process, or None when it is gone."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None
    name, _, rest = said.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Process(pid, int(fields[1]), fields[0], int(fields[19]), command or name)


def table() -> Iterator[Process]:
    """Every process of the machine."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (found := look_up(int(entry.name))) is not None:
            yield found


def below(root: int, *, but: AbstractSet[int] = frozenset()) -> list[Process]:
    """The living descendants of a process, without the trees of those in `but`."""
    children: dict[int, list[Process]] = {}
    for process in table():
        children.setdefault(process.parent, []).append(process)
    found, ask = [], [root]
    while ask:
        for child in children.get(ask.pop(), ()):
            if child.pid not in but:
                ask.append(child.pid)
                if child.state not in "ZX":
                    found.append(child)
    return found


def reap(known: AbstractSet[int]) -> None:
    """Let the dead children go that are nobody's `Popen`."""
    me = os.getpid()
    for process in list(table()):
        if process.parent == me and process.state == "Z" and process.pid not in known:
            os.waitpid(process.pid, os.WNOHANG)


def left_below_me(*, but: AbstractSet[int], patience_s: float) -> list[Process]:
    """Descendants that do not end by themselves within the time: what the kernel kills needs a moment to go."""
    end = time.monotonic() + patience_s
    while True:
        reap(but)
        left = below(os.getpid(), but=but)
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def mounting(path: Path) -> list[int]:
    """Processes in whose mount namespace something below `path` is mounted somewhere, or something is mounted there."""
    return [process.pid for process in table() if _mounts(process.pid, str(path))]


def _mounts(pid: int, path: str) -> bool:
    try:
        rows = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(_is_below(place, path) for row in rows for place in row.split()[3:5])


def _is_below(place: str, path: str) -> bool:
    return place == path or place.startswith(path + "/")
