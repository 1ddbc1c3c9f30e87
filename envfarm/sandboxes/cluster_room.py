"""A door for boxes in the making: lets in as many at once as the cluster has shown itself to have places for. Used by `kubernetes`.

The decision is `scheduling.cluster_room`'s; this counts, and lets the others wait in order. Used in one event loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from envfarm.core.ids import BoxId
from envfarm.scheduling.cluster_room import Window


class ClusterRoom:
    """How a cluster has taken boxes so far."""

    def __init__(self, most: int) -> None:
        """At most so many boxes are in the making at once, however much room there is."""
        self._window = Window.opened(most)
        self._making = 0
        self._refused: set[BoxId] = set()
        self._aside: set[BoxId] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._tell: list[Callable[[], None]] = []

    @property
    def window(self) -> int:
        """How many boxes may be in the making now."""
        return self._window.size

    @property
    def aside(self) -> int:
        """How many boxes wait for a place beside those that the window counts."""
        return len(self._aside)

    @property
    def full(self) -> bool:
        """Whether a box that is in the making has found no place."""
        return bool(self._refused)

    def tell(self, listener: Callable[[], None]) -> None:
        """Call it whenever there may be more room than before."""
        self._tell.append(listener)

    def changed(self) -> None:
        """There may be more room than before: a box has ended."""
        for listener in self._tell:
            listener()

    def refused(self, box: BoxId) -> bool:
        """A box in the making has found no place; whether that is news."""
        if box in self._refused:
            return False
        self._refused.add(box)
        self._window = self._window.after(placed=False)
        return True

    def stand_aside(self, box: BoxId) -> None:
        """A box in the making has found no place for long: it waits on, and lets another try. It may be too large for any place."""
        if box not in self._aside:
            self._aside.add(box)
            self._leave()

    @asynccontextmanager
    async def making(self, box: BoxId) -> AsyncIterator[None]:
        """A box is in the making within this block, which begins when it may be. It is made when the block ends without an error."""
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
            elif not turn.cancelled():  # its turn had come: it is another's
                self._leave()
            raise

    def _leave(self) -> None:
        self._making -= 1
        self._let_in()
        self.changed()

    def _let_in(self) -> None:
        """Places are handed over here and not when who waited runs: whoever comes meanwhile is behind."""
        while self._waiting and self._making < self._window.size:
            turn = self._waiting.popleft()
            if not turn.done():
                self._making += 1
                turn.set_result(None)
