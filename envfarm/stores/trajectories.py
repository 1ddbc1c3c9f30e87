"""Trajectories as files: one of JSON lines per episode, appended durably.

Written by the episode runner, read by whoever resumes, exports or shows an episode. One writer per episode at a time (the holder of its
lease): who goes on with an attempt behind which somebody else has written is refused. There is no lock, since a process that is stopped
would keep it. A crash in the middle of a write leaves a torn or garbled last line, which was never acknowledged: readers skip it and the
next process that appends removes it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import to_json

from envfarm.core.errors import StoreError, boundary
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import BareStep, End, Excerpt, Header, Step, Trajectory
from envfarm.core.uninterrupted import in_thread
from envfarm.stores import json_lines
from envfarm.stores.blobs import FileBlobStore

Line = Header | Step | Sampled | End
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])
_BEGINS = re.compile(rb'\{"kind":"(?:(header|sampled|end)"|step","index":([0-9]+),)')
"""How each line is written. What a step's line is, and that none is missing before it, is known from its beginning."""
PIECE = 256 << 10
T = TypeVar("T")
M = TypeVar("M", bound=Frozen)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class FileTrajectories:
    """A directory of `<episode id>.jsonl`."""

    def __init__(self, root: Path, *, blobs: FileBlobStore | None = None, faults: FaultPoints = NO_FAULTS) -> None:
        self._root = root
        self._blobs = blobs
        """Has what a program's record refers to."""
        self._faults = faults
        self._ends: dict[EpisodeId, int] = {}
        """Where this process's last line of an attempt that goes on ends: what it then appends belongs there."""

    def path(self, episode: EpisodeId) -> Path:
        """The episode's file. Raises `StoreError` for an id that is no file name."""
        if not _NAME.fullmatch(episode):
            raise StoreError(f"an episode id of letters, digits, `.`, `_` and `-` is needed, not {episode!r}")
        return self._root / f"{episode}.jsonl"

    async def append(self, episode: EpisodeId, line: Line) -> None:
        """Durable when it returns. Raises `StoreError` (full disk, no permission, another writer), and then nothing of the line is kept."""
        path = self.path(episode)
        with boundary(StoreError, f"trajectory of {episode}"):
            if isinstance(line, Sampled):
                await self._hold(episode, line)
            data = _LINE.dump_json(line) + b"\n"
            self._faults.reach("journal write")
            known = None if isinstance(line, Header) else self._ends.get(episode)
            self._ends[episode] = await in_thread(lambda: json_lines.append(path, data, at=known, is_sound=_is_line))
            if isinstance(line, End):  # whoever goes on from here begins with a header
                del self._ends[episode]

    async def read(self, episode: EpisodeId) -> Trajectory:
        """The last attempt. Raises `StoreError` when there is none, or the file is damaged before its last line."""
        if (last := await self.last(episode)) is None:
            raise StoreError(f"no trajectory of episode {episode!r} in {self._root}")
        return last

    async def last(self, episode: EpisodeId) -> Trajectory | None:
        """The last attempt, or None where the episode has not begun. Raises `StoreError` for a damaged file.

        The last one of the highest epoch: a host that was stopped between looking at its lease and writing may begin one when it wakes.
        One that was interrupted before it had all the steps that it goes on from does not count.
        """

        def work(path: Path) -> Trajectory | None:
            return _parsed(path, found) if (found := _last(_attempts(path))) else None

        return await self._look(episode, work)

    async def attempts(self, episode: EpisodeId) -> tuple[Trajectory, ...]:
        """Every attempt, first to last. Raises as `last` does."""
        return await self._look(episode, lambda path: tuple(_parsed(path, one) for one in _attempts(path)))

    async def excerpt(self, episode: EpisodeId, *, call_id: str | None = None) -> Excerpt | None:
        """Of `last`, however long: its header and its last two steps, and the one whose call has this id. The others are not read as JSON.

        Raises `StoreError` for a file whose damage that shows.
        """
        return await self._look(episode, lambda path: _excerpt(path, call_id))

    async def json(self, episode: EpisodeId) -> Iterator[bytes] | None:
        """`last` as JSON, in pieces that are read from the file as they are taken, in the thread that takes them. Raises as `excerpt`."""

        def work(path: Path) -> Iterator[bytes] | None:
            if (found := _last(_attempts(path))) is None:
                return None
            with path.open("rb") as file:
                end = None if found.end is None else _read(path, file, found.end, End)
            return _in_pieces(_json(path, found, end))

        return await self._look(episode, work)

    async def forget(self, episodes: Sequence[EpisodeId]) -> None:
        """Delete what is known of these. Raises `StoreError` (no permission)."""
        with boundary(StoreError, "forgetting trajectories"):
            paths = [self.path(episode) for episode in episodes]
            await in_thread(lambda: _forget(paths, self._blobs))
        for episode in episodes:
            self._ends.pop(episode, None)

    async def _hold(self, episode: EpisodeId, sampled: Sampled) -> None:
        """Before the line is there: none may refer to what somebody else lets go of."""
        blobs, wanted = self._blobs, [call.experts.digest for call in sampled.calls if call.experts is not None]
        if blobs is not None and wanted:
            await in_thread(lambda: blobs.hold(episode, wanted))

    async def _look(self, episode: EpisodeId, work: Callable[[Path], T]) -> T:
        path = self.path(episode)
        with boundary(StoreError, f"trajectory of {episode}"):
            return await in_thread(lambda: work(path))


def _forget(paths: Sequence[Path], blobs: FileBlobStore | None) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        if blobs is not None:
            blobs.let_go(path.stem)


class _Place(NamedTuple):
    """Where a line is in its file."""

    number: int
    at: int
    size: int


@dataclass(slots=True)
class _Attempt:
    """Where in a file the lines of an attempt are."""

    header: Header
    steps: list[_Place] = field(default_factory=list)
    marked: list[_Place] = field(default_factory=list)
    """The steps whose lines have what was looked for."""
    sampled: _Place | None = None
    end: _Place | None = None


def _attempts(path: Path, mark: bytes | None = None) -> list[_Attempt]:
    """All of a file. Only headers and the last line are read as JSON: the others may have millions of tokens."""
    found: list[_Attempt] = []
    for place, row in _whole(path):
        begins = _BEGINS.match(row)
        if begins is None or b"\0" in row:
            raise StoreError(f"{path}, line {place.number}: damaged (it is no line of a trajectory)")
        kind, index = begins.groups()
        if kind == b"header":
            found.append(_Attempt(_line(path, place, row, Header)))
        elif not found:
            raise StoreError(f"{path}: does not begin with a header")
        elif kind == b"sampled":
            found[-1].sampled = place
        elif kind == b"end":
            found[-1].end = place
        elif int(index) != len(found[-1].steps):
            raise StoreError(f"{path}: step {int(index)} stands where step {len(found[-1].steps)} belongs")
        else:
            found[-1].steps.append(place)
            if mark is not None and mark in row:
                found[-1].marked.append(place)
    return found


def _last(attempts: Sequence[_Attempt]) -> _Attempt | None:
    whole = [one for one in attempts if len(one.steps) >= one.header.resumed]
    return max(enumerate(whole), key=lambda one: (one[1].header.epoch, one[0]))[1] if whole else None


def _whole(path: Path) -> Iterator[tuple[_Place, bytes]]:
    """Every line, but a garbled last one.

    Some file systems bring a file back with its length but not its last block. The next append takes it away.
    """
    before: tuple[_Place, bytes] | None = None
    at = 0
    for number, row in enumerate(json_lines.read(path), 1):
        if before is not None:
            yield before
        before = _Place(number, at, len(row)), row
        at += len(row) + 1
    if before is not None and _is_line(before[1]):
        yield before


def _excerpt(path: Path, call_id: str | None) -> Excerpt | None:
    found = _last(_attempts(path, None if call_id is None else b'"call_id":' + to_json(call_id)))
    if found is None:
        return None
    with path.open("rb") as file:
        last = tuple(_read(path, file, place, BareStep) for place in found.steps[-2:])
        # The mark may be in what a model said, too.
        marked = (_read(path, file, place, BareStep) for place in found.marked)
        called = next((step for step in marked if step.call is not None and step.call.call_id == call_id), None)
    return Excerpt(header=found.header, turns=len(found.steps), last=last, called=called)


def _parsed(path: Path, attempt: _Attempt) -> Trajectory:
    with path.open("rb") as file:
        steps = tuple(_read(path, file, place, Step) for place in attempt.steps)
        sampled = None if attempt.sampled is None else _read(path, file, attempt.sampled, Sampled)
        end = None if attempt.end is None else _read(path, file, attempt.end, End)
    return Trajectory(header=attempt.header, steps=steps, sampled=sampled, end=end)


def _json(path: Path, attempt: _Attempt, end: End | None) -> Iterator[bytes]:
    """The lines as they are: they are what they are dumped as. But the end is told as a policy may see it, whoever has written it."""
    with path.open("rb") as file:
        yield b'{"header":' + attempt.header.model_dump_json().encode() + b',"steps":['
        for number, place in enumerate(attempt.steps):
            yield b"," if number else b""
            yield from _pieces(file, place)
        yield b'],"sampled":'
        yield from (b"null",) if attempt.sampled is None else _pieces(file, attempt.sampled)
        yield b',"end":' + (b"null" if end is None else end.model_dump_json().encode()) + b"}"


def _in_pieces(texts: Iterable[bytes]) -> Iterator[bytes]:
    piece = bytearray()
    for text in texts:
        piece += text
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _pieces(file: BinaryIO, place: _Place) -> Iterator[bytes]:
    file.seek(place.at)
    for at in range(0, place.size, PIECE):
        yield file.read(min(PIECE, place.size - at))


def _read(path: Path, file: BinaryIO, place: _Place, kind: type[M]) -> M:
    return _line(path, place, b"".join(_pieces(file, place)), kind)


def _line(path: Path, place: _Place, row: bytes, kind: type[M]) -> M:
    try:
        return kind.model_validate_json(row)
    except ValidationError as e:
        first = e.errors()[0]["msg"]
        raise StoreError(f"{path}, line {place.number}: damaged ({e.error_count()} problems, first: {first})") from e


def _is_line(row: bytes) -> bool:
    try:
        _LINE.validate_json(row)
    except ValidationError:
        return False
    return True
