"""The pipeline's journal: what became of each source record, one JSON line each, on disk before the next is begun.

Called by the pipeline and by reports. Append-only: a killed build leaves at most one torn line at the end, which the next one cuts off.
One build at a time holds it.
"""

import fcntl
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, Self

from pydantic import Field, TypeAdapter

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.errors import StoreError, UsageError, boundary
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, TaskDigest
from envfarm.core.validation import Cost
from envfarm.stores import json_lines

Reached = Literal["record", "candidate", "set up", "valid"]


class ItemValid(Frozen):
    """A record that became a task. It passed every gate that it was put through."""

    kind: Literal["valid"] = "valid"
    source_digest: Digest
    project: str
    url: str
    task: TaskDigest
    task_name: str
    seconds: float
    cost: Cost = Cost()
    not_asked: tuple[Gate, ...] = ()
    """Required gates that the build left out: the task is unchecked, until `envfarm tasks validate` asks them."""
    title: str = ""
    """The record's, here and below; empty if an earlier version wrote the entry, or if nothing but a rejection was read."""


class ItemRejected(Frozen):
    """A record that did not."""

    kind: Literal["rejected"] = "rejected"
    rejection: Rejection
    reached: Reached
    """The last stage that was passed."""
    cost: Cost = Cost()
    title: str = ""

    @property
    def source_digest(self) -> Digest:
        """The record's identity."""
        return self.rejection.source_digest

    @property
    def project(self) -> str:
        """The project's name."""
        return self.rejection.name

    @property
    def seconds(self) -> float:
        """What it took to find out."""
        return self.rejection.seconds


class ItemFailed(Frozen):
    """A record that the infrastructure kept from being judged: neither task nor rejection, taken up again by the next build."""

    kind: Literal["failed"] = "failed"
    source_digest: Digest
    project: str
    url: str
    error: str
    hint: str = ""
    seconds: float = 0.0
    title: str = ""


Finished = ItemValid | ItemRejected
Entry = Annotated[ItemValid | ItemRejected | ItemFailed, Field(discriminator="kind")]
_ENTRY: TypeAdapter[ItemValid | ItemRejected | ItemFailed] = TypeAdapter(Entry)


class Journal:
    """An open journal. Use as a context."""

    def __init__(self, path: Path, *, faults: FaultPoints = NO_FAULTS) -> None:
        self.path = path
        self._faults = faults
        self._held: BinaryIO | None = None
        self._writing = threading.Lock()
        self._finished: dict[Digest, Finished] = {}
        self._failed: dict[Digest, ItemFailed] = {}

    def __enter__(self) -> Self:
        """Take the journal. Raises `UsageError` while another build has it, `StoreError` where it cannot be read or written."""
        with boundary(StoreError, f"opening {self.path}"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._held = self.path.open("a+b")
            try:
                fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                self._held.close()
                raise UsageError(f"another build is at work with {self.path}", hint="wait for it, or give another sources file") from e
        for entry in read(self.path):
            self._remember(entry)
        return self

    def __exit__(self, *_: object) -> None:
        """Let the journal go."""
        if self._held is not None:
            self._held.close()

    @property
    def finished(self) -> dict[Digest, Finished]:
        """What is done, by source record."""
        return dict(self._finished)

    @property
    def failed(self) -> dict[Digest, ItemFailed]:
        """What the infrastructure prevented and no later build made good."""
        return dict(self._failed)

    def append(self, *entries: ItemValid | ItemRejected | ItemFailed) -> None:
        """Write entries; durable when this returns. Raises `StoreError`, after which the journal is as it was before."""
        if self._held is None:
            raise StoreError(f"{self.path} is not open")
        with boundary(StoreError, f"writing {self.path}"):
            self._faults.reach("journal write")
            with self._writing:  # several threads of a build write
                json_lines.append(self.path, b"".join(_line(entry) for entry in entries))
        for entry in entries:
            self._remember(entry)

    def _remember(self, entry: ItemValid | ItemRejected | ItemFailed) -> None:
        if isinstance(entry, ItemFailed):
            self._failed[entry.source_digest] = entry
        else:
            self._finished[entry.source_digest] = entry
            self._failed.pop(entry.source_digest, None)


def _line(entry: ItemValid | ItemRejected | ItemFailed) -> bytes:
    return json.dumps(entry.model_dump(mode="json")).encode() + b"\n"


def read(path: Path) -> Iterator[ItemValid | ItemRejected | ItemFailed]:
    """The entries of a journal that may be in use; a torn last line is left out. Raises `StoreError` for a line that is no entry."""
    with boundary(StoreError, f"reading {path}"):
        lines = list(json_lines.read(path))
    for number, line in enumerate(lines, start=1):
        try:
            yield _ENTRY.validate_python(json.loads(line))
        except ValueError as e:
            hint = "the journal is damaged or another version's: move it away and build again, valid tasks stay in the catalogue"
            raise StoreError(f"{path}:{number}: not an entry of a journal", hint=hint) from e
