"""Limits how many boxes are created at once to what the cluster has shown that it can place.

`scheduling.cluster_room` decides the limit; this module counts, and makes the others wait in order. Used in one event loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from envfarm.core.ids import BoxId
from envfarm.scheduling.cluster_room import Window


class ClusterRoom:
    """The state of a cluster's capacity for new boxes."""

    def __init__(self, most: int) -> None:
        """`most`: the most boxes that are created at once, however much room there is."""
        self._window = Window.opened(most)
        self._making = 0
        self._refused: set[BoxId] = set()
        self._aside: set[BoxId] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._listeners: list[Callable[[], None]] = []

    @property
    def window(self) -> int:
        """How many boxes may be in creation now."""
        return self._window.size

    @property
    def aside(self) -> int:
        """How many boxes in creation wait for a place without counting against the window."""
        return len(self._aside)

    @property
    def full(self) -> bool:
        """Whether a box in creation has found no place."""
        return bool(self._refused)

    @property
    def short(self) -> bool:
        """Whether one of these has not stood aside yet: it may fit where a small box ends."""
        return not self._refused <= self._aside

    def tell(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever there may be more room than before."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Tell listeners that there may be more room: a box has ended."""
        for listener in self._listeners:
            listener()

    def refused(self, box: BoxId) -> bool:
        """Record that a box in creation found no place. Returns whether this is new."""
        if box in self._refused:
            return False
        self._refused.add(box)
        self._window = self._window.after(placed=False)
        return True

    def stand_aside(self, box: BoxId) -> None:
        """Stop counting a box that has long found no place: it keeps waiting, and another may try. It may be too large for any place."""
        if box not in self._aside:
            self._aside.add(box)
            self._leave()

    @asynccontextmanager
    async def making(self, box: BoxId) -> AsyncIterator[None]:
        """Counts a box as in creation. The block begins when its turn comes; it counts as created if the block ends without an error."""
        await self._enter()
        try:
            yield
            self._window = self._window.after(placed=True)
        finally:
            self._refused.discard(box)
            if box in self._aside:
                self._aside.remove(box)
            else:
                self._making -= 1
            self._let_in()
            self.changed()

    async def _enter(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled():  # its turn had come: pass it on
                self._leave()
            raise

    def _leave(self) -> None:
        self._making -= 1
        self._let_in()
        self.changed()

    def _let_in(self) -> None:
        """Start boxes in order. Turns are counted here, not when the waiting task runs, so that no newcomer can overtake it."""
        while self._waiting and self._making < self._window.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self._making += 1
                turn.set_result(None)
