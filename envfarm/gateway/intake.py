"""Requests while they are being read: how many bytes they hold, of all episodes together and of each.

What an episode holds is bounded well below what all may. Where many fill the room all the same, whoever holds most makes place, so that an
ordinary request always finds some.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from envfarm.core.json_parts import parts
from envfarm.gateway.problems import Refused

LARGE_BYTES = 1 << 14
"""So much text is tokenised in a hundredth of a second."""
LARGE_PARTS = 1_000
"""So many are read and compared in some thousandths of a second."""
ORDINARY = 8
"""An episode that holds more than such a part of what it may is the cause of a full room, and no victim."""
FULL = "too many requests are being read"


def is_large(content: bytes) -> bool:
    """Whether a request is too much work for the event loop, which all episodes share."""
    return len(content) > LARGE_BYTES or sum(parts(content)) > LARGE_PARTS


class Room:
    """A gateway's, for all of its episodes."""

    def __init__(self, most_bytes: int, each_bytes: int) -> None:
        """`each_bytes` are of one episode's requests."""
        self.each_bytes = each_bytes
        self._most_bytes = most_bytes
        self._held = 0
        self._uploads: set[Upload] = set()

    def shift(self, upload: "Upload", size: int) -> None:
        """A request holds so much more; the largest of whoever holds most make place for it, which may be itself."""
        self._uploads.add(upload)
        self._held += size
        while self._held > self._most_bytes:
            max(self._uploads, key=lambda u: (u.intake.held, u.size)).evict()

    def leave(self, upload: "Upload") -> None:
        """A request holds nothing more."""
        if upload in self._uploads:
            self._uploads.remove(upload)
            self._held -= upload.size


class Crowded(Refused):
    """There is no room, and not because of this episode's requests."""


class Intake:
    """One episode's share of the room."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.held = 0

    @asynccontextmanager
    async def request(self) -> AsyncIterator["Upload"]:
        """A request comes in and is read; what it holds is given back with the block.

        Raises `Refused` where it has to make place: `Crowded` where that is others' doing.
        """
        async with asyncio.timeout(None) as scope:
            upload = Upload(self, scope)
            try:
                yield upload
            except asyncio.CancelledError as e:
                if upload.evicted is None:
                    raise
                raise upload.evicted("busy", FULL) from e
            finally:
                upload.leave()


class Upload:
    """One request that comes in."""

    def __init__(self, intake: Intake, scope: asyncio.Timeout) -> None:
        self.intake = intake
        self.size = 0
        self.evicted: type[Refused] | None = None
        """Why it had to make place. No error itself: with its traceback it would hold what was read."""
        self._scope = scope

    def take(self, size: int) -> None:
        """So many bytes more have come. Raises as `Intake.request`, and `Refused` where the episode holds more than it may."""
        room = self.intake.room
        if self.intake.held + size > room.each_bytes:
            raise Refused("busy", f"{room.each_bytes} bytes of this episode's requests are being read")
        self.size += size
        self.intake.held += size
        room.shift(self, size)
        if self.evicted is not None:
            raise self.evicted("busy", FULL)

    def evict(self) -> None:
        """Make place now, whatever is being done with it."""
        self.evicted = Refused if self.intake.held * ORDINARY > self.intake.room.each_bytes else Crowded
        self.leave()
        self._scope.reschedule(asyncio.get_running_loop().time())

    def leave(self) -> None:
        """Hold nothing more."""
        self.intake.room.leave(self)
        self.intake.held -= self.size
        self.size = 0
