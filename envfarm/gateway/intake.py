"""Requests while they are being read: how many bytes they hold, of all episodes together and of each.

What an episode holds is bounded well below what all may: an agent that begins to send and does not go on fills its own share alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from envfarm.gateway.problems import Refused

LARGE_BYTES = 1 << 14
"""So much text is tokenised in a hundredth of a second."""
LARGE_PARTS = 1_000
"""So many are read and compared in some thousandths of a second."""


def parts(content: bytes) -> int:
    """Commas, brackets and braces: they, more than bytes, are what reading JSON costs."""
    return sum(map(content.count, (b",", b"[", b"{")))


def is_large(content: bytes) -> bool:
    """Whether a request is too much work for the event loop, which all episodes share."""
    return len(content) > LARGE_BYTES or parts(content) > LARGE_PARTS


@dataclass
class Room:
    """A gateway's, for all of its episodes."""

    most_bytes: int
    each_bytes: int
    """Of one episode's requests."""
    held: int = 0


class Crowded(Refused):
    """There is no room, and not because of this episode's other requests."""


class Intake:
    """One episode's share of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0

    @contextmanager
    def request(self) -> Iterator["Upload"]:
        """A request comes in; what it holds is given back with the block."""
        upload = Upload(self)
        try:
            yield upload
        finally:
            self.shift(-upload.size)

    def shift(self, size: int) -> None:
        """Hold so much more."""
        self._held += size
        self._room.held += size

    def check(self, own: int) -> None:
        """Raises `Refused` for a request that holds `own` where there is no room for it."""
        if self._held > self._room.each_bytes:
            raise Refused("busy", f"{self._room.each_bytes} bytes of this episode's requests are being read")
        if self._room.held > self._room.most_bytes:
            crowded = Refused if self._held > own else Crowded
            raise crowded("busy", "too many requests are being read")


class Upload:
    """One request that comes in."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.size = 0

    def take(self, size: int) -> None:
        """So many bytes more have come. Raises `Refused` where there is no room for them: `Crowded` where that is others' doing alone."""
        self.size += size
        self._intake.shift(size)
        self._intake.check(self.size)
