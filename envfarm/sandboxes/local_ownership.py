"""Who owns a local box, on disk: owners' locks and boxes' labels below `<home>/boxes`. It starts nothing.
    boxes/.owner-<id>/lock     locked (flock) by the process that owns the boxes while it lives
    boxes/.owner-<id>/spare-<n>  a closed box's directory, for a later box
    boxes/<id>-<n>/box.json    labels, the first process, control groups
    boxes/<id>-<n>/…           socket, log, disk space

A box's owner is alive exactly while the kernel says that its lock is held. So a process killed at any moment leaves nothing that looks
alive, and nothing alive is ever taken for a leftover.
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import ConfigDict, ValidationError

from envfarm.core.errors import SandboxError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import BoxId, EpisodeId, RunId
from envfarm.sandboxes.local_stage import start_time

OWNER = ".owner-"
NEW = ".new-"
LABELS = "box.json"
FILES = frozenset({LABELS, "log"})
"""What stays of a box's directory, emptied, when another box gets it."""
SPARE_MAX = 64
DEATH_S = 30.0
"""How long a killed process may take to disappear."""


class Labels(Frozen):
    """The recorded facts of a box: the process and the control groups to remove; the rest is for people."""

    model_config = ConfigDict(extra="ignore")
    """So that a box of another release is removed, too."""

    run_id: RunId
    episode_id: EpisodeId
    deadline: datetime | None
    pid: int = 0
    started: int = 0
    """The pid's start time, in clock ticks since boot."""
    groups: tuple[str, ...] = ()
    """Control group directories."""


class Ownership:
    """This process's lock, taken at the first use and held until `release`."""

    def __init__(self, boxes: Path) -> None:
        self.boxes = boxes
        self.owner_id = secrets.token_hex(6)
        self._lock: int | None = None
        self._made = 0
        self._spare: list[Path] = []

    @property
    def directory(self) -> Path:
        """This owner's directory; it exists after `hold`."""
        return self.boxes / f"{OWNER}{self.owner_id}"

    def hold(self) -> None:
        """Take the lock. The directory gets its final name only once it is locked."""
        if self._lock is not None:
            return
        self.boxes.mkdir(parents=True, exist_ok=True, mode=0o700)
        while self._lock is None:
            fresh = self.boxes / f"{NEW}{self.owner_id}"
            # A collector may remove the directory as a dead owner's before it is locked: then try again.
            with contextlib.suppress(FileNotFoundError):
                fresh.mkdir(mode=0o700)
                lock = os.open(fresh / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                try:
                    fresh.rename(self.directory)
                except FileNotFoundError:
                    os.close(lock)
                    raise
                self._lock = lock

    def release(self) -> None:
        """Release the lock, and remove the directory. For a provider that has closed its boxes."""
        if self._lock is not None:
            self._spare.clear()
            shutil.rmtree(self.directory, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def next_box(self) -> BoxId:
        """A new box id, which names its owner."""
        self._made += 1
        return BoxId(f"{self.owner_id}-{self._made}")

    def place(self, box: BoxId) -> Path:
        """The box's directory. Raises `SandboxError` for an invalid id."""
        owner, dash, number = box.partition("-")
        if not (dash and owner.isalnum() and number.isdigit()):
            raise SandboxError(f"{box!r} is not the id of a local box")
        return self.boxes / box

    def make(self, box: BoxId) -> Path:
        """Make a box's directory, out of a closed box's one if there is any, and return it.

        A box has few files and lives for a short time, and ext4 looks at every inode that was deleted within the last minute before it
        makes a file: keeping them saves a tenth of a box's CPU time.
        """
        place = self.place(box)
        try:
            self._spare.pop().rename(place)
        except IndexError:
            place.mkdir(mode=0o700)
        return place

    def remove(self, box: BoxId) -> None:
        """Remove a box's directory, or keep it for a later box. No error if it is gone."""
        place = self.place(box)
        spare = self.directory / f"spare-{box.partition('-')[2]}"
        if box.startswith(f"{self.owner_id}-") and len(self._spare) < SPARE_MAX:
            with contextlib.suppress(OSError):
                _empty(place)
                place.rename(spare)
                self._spare.append(spare)
                return
        shutil.rmtree(place, ignore_errors=True)

    def write(self, box: BoxId, labels: Labels) -> None:
        """Write a box's labels, behind earlier ones. Raises `OSError`."""
        line = labels.model_dump_json().encode() + b"\n"
        fd = os.open(self.place(box) / LABELS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.write(fd, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)

    def read(self, box: BoxId) -> Labels | None:
        """A box's last whole labels; None if the box is gone or never had any."""
        with contextlib.suppress(OSError):
            for line in reversed((self.place(box) / LABELS).read_bytes().splitlines()):
                with contextlib.suppress(ValidationError):
                    return Labels.model_validate_json(line)
        return None

    def known(self) -> Iterator[BoxId]:
        """Every box that has a directory, whoever created it."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.boxes):
                if entry.name[0] != "." and entry.is_dir(follow_symlinks=False):
                    yield BoxId(entry.name)

    def lives(self, owner_id: str) -> bool:
        """Whether the process with this owner id is alive."""
        if owner_id == self.owner_id:
            return self._lock is not None
        try:
            lock = os.open(self.boxes / f"{OWNER}{owner_id}" / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def left_over(self) -> list[BoxId]:
        """Boxes whose owner is dead, whatever their labels say."""
        alive: dict[str, bool] = {}
        boxes = []
        for box in self.known():
            owner_id = box.partition("-")[0]
            if owner_id not in alive:
                alive[owner_id] = self.lives(owner_id)
            if not alive[owner_id]:
                boxes.append(box)
        return boxes

    def collect_owners(self) -> None:
        """Remove the directories of dead owners. Call it once their boxes are gone."""
        for place in self.boxes.glob(f"{OWNER}*"):
            if not self.lives(place.name.removeprefix(OWNER)):
                shutil.rmtree(place, ignore_errors=True)
        for place in self.boxes.glob(f"{NEW}*"):
            with contextlib.suppress(OSError), _locked(place / "lock"):  # the lock is created here if its owner did not get that far
                shutil.rmtree(place, ignore_errors=True)


def _empty(place: Path) -> None:
    """Empty the files of a box's directory, and remove its socket. Raises `OSError` if it holds directories."""
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name in FILES:
                os.truncate(entry.path, 0)
            else:
                os.unlink(entry.path)  # noqa: PTH108 - an entry


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def is_process(pid: int, started: int) -> bool:
    """Whether the recorded process (not another with its pid) still exists, dying or not."""
    return pid > 1 and started > 0 and start_time(pid) == started


def children_of(pid: int) -> list[tuple[int, int]]:
    """Direct children with their start times; empty if the kernel does not provide them."""
    try:
        said = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [(child, start_time(child)) for child in map(int, said.split())]


async def kill_box(pid: int, started: int) -> None:
    """Kill a box by its first process. The box's own PID 1 is killed first: once it is gone, so is everything in its pid namespace."""
    inner = children_of(pid) if is_process(pid, started) else []
    victims = [*inner, (pid, started)]
    for victim, since in victims:
        if is_process(victim, since):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            await _gone(victim, since)


async def _gone(pid: int, started: int) -> None:
    """Wait until the process is gone or a zombie. A killed PID 1 becomes a zombie only once its namespace is empty."""
    wait_s, waited_s = 0.0005, 0.0
    while is_process(pid, started) and _state(pid) not in {"Z", "X", ""}:
        if waited_s > DEATH_S:
            raise SandboxError(f"process {pid} of a box cannot be killed", hint="it is stuck in the kernel: see /proc/<pid>/stack")
        await asyncio.sleep(wait_s)
        waited_s += wait_s
        wait_s = min(wait_s * 2, 0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return ""
