"""Trajectories as files: one of JSON lines per episode, appended durably.

Written by the episode runner, read by whoever resumes, exports or shows an episode. One writer per episode at a time (the holder of its
lease): who goes on with an attempt behind which somebody else has written is refused. There is no lock, since a process that is stopped
would keep it. A crash in the middle of a write leaves a torn or garbled last line, which was never acknowledged: readers skip it and the
next process that appends removes it.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from envfarm.core.errors import StoreError, boundary
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import EpisodeId
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import End, Header, Step, Trajectory
from envfarm.stores import json_lines
from envfarm.stores.blobs import FileBlobStore
from envfarm.stores.uninterrupted import in_thread

Line = Header | Step | Sampled | End
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])
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
        whole = [one for one in await self.attempts(episode) if len(one.steps) >= one.header.resumed]
        return max(enumerate(whole), key=lambda one: (one[1].header.epoch, one[0]))[1] if whole else None

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

    async def attempts(self, episode: EpisodeId) -> tuple[Trajectory, ...]:
        """Every attempt, first to last."""
        path = self.path(episode)
        with boundary(StoreError, f"trajectory of {episode}"):
            return await asyncio.to_thread(lambda: tuple(_sections(path, list(json_lines.read(path)))))


def _forget(paths: Sequence[Path], blobs: FileBlobStore | None) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        if blobs is not None:
            blobs.let_go(path.stem)


def _sections(path: Path, rows: Sequence[bytes]) -> Iterator[Trajectory]:
    header: Header | None = None
    steps: list[Step] = []
    sampled: Sampled | None = None
    end: End | None = None
    for line in _lines(path, rows):
        match line:
            case Header():
                if header is not None:
                    yield Trajectory(header=header, steps=tuple(steps), sampled=sampled, end=end)
                header, steps, sampled, end = line, [], None, None
            case _ if header is None:
                raise StoreError(f"{path}: does not begin with a header")
            case Step():
                if line.index != len(steps):
                    raise StoreError(f"{path}: step {line.index} stands where step {len(steps)} belongs")
                steps.append(line)
            case Sampled():
                sampled = line
            case End():
                end = line
    if header is not None:
        yield Trajectory(header=header, steps=tuple(steps), sampled=sampled, end=end)


def _lines(path: Path, rows: Sequence[bytes]) -> Iterator[Line]:
    for number, row in enumerate(rows, 1):
        try:
            yield _LINE.validate_json(row)
        except ValidationError as e:
            if number == len(rows):
                # Some file systems bring a file back with its length but not its last block. The next append takes it away.
                return
            raise StoreError(f"{path}, line {number}: damaged ({e.error_count()} problems, first: {e.errors()[0]['msg']})") from e


def _is_line(row: bytes) -> bool:
    try:
        _LINE.validate_json(row)
    except ValidationError:
        return False
    return True
