"""A limit on how long somebody else may be silent, of the time in which this process runs.

For all who blame the other side for a time-out. A process that stood still (stopped by a signal, its machine paused, its event loop
blocked) finds every timer due when it goes on, and the answers that came meanwhile unread: `asyncio.timeout` would throw them away.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICK_S = 1.0
"""Time is counted in pieces of at most so long, whatever became of a piece: no pause takes more of a limit than one."""
LATE_S = 0.5
"""A piece that ends so much too late held a pause."""


@asynccontextmanager
async def awake_timeout(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, and raises the same `TimeoutError`, but a pause of this process ends nothing.

    The limit is over at the end of a piece that was counted in time, after one more loop's turn: what had arrived has been read by then.
    While no piece ends in time it is not over, however long that lasts.
    """
    async with asyncio.timeout(None) as limit:
        countdown = _Countdown(limit, seconds)
        try:
            yield
        finally:
            countdown.stop()


class _Countdown:
    def __init__(self, limit: asyncio.Timeout, left_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._left_s = left_s
        self._next(min(TICK_S, left_s))

    def stop(self) -> None:
        self._timer.cancel()

    def _next(self, piece_s: float) -> None:
        self._piece_s = piece_s
        self._timer = self._loop.call_later(piece_s, self._over)

    def _over(self) -> None:
        late = self._loop.time() - self._timer.when() > LATE_S
        self._left_s -= self._piece_s
        if self._left_s > 0:
            self._next(min(TICK_S, self._left_s))
        elif late:
            self._next(TICK_S)
        else:
            self._limit.reschedule(self._loop.time())  # the past: in the loop's next turn, behind whom an answer has woken
