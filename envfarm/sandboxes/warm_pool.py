"""A pool of boxes that are created before they are needed. It knows no provider: callables create and end a blank box.

It holds what the last `foresee` call announced, and no more. Each blank is given out once, and no used box ever enters the pool. Used in
one event loop.
"""

import asyncio
import logging
import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Generic, TypeVar

from envfarm.core.errors import EnvfarmError

Key = TypeVar("Key", bound=Hashable)
Blank = TypeVar("Blank")
KEPT_S = 120.0
"""How long an unwanted blank is kept: queues change faster than boxes are created."""
AFTER_FAILURE_S = 30.0
"""How long nothing is created ahead after a failed creation. The next caller gets the error, and nothing retries in a loop."""
log = logging.getLogger(__name__)


class WarmPool(Generic[Key, Blank]):
    """Blank boxes by key."""

    def __init__(
        self,
        make: Callable[[Key], Awaitable[Blank]],
        end: Callable[[Blank], Awaitable[None]],
        *,
        lives: Callable[[Blank], bool],
        size: int,
        kept_s: float = KEPT_S,
        longest_s: float = math.inf,
    ) -> None:
        """`make` raises `EnvfarmError`, leaving nothing behind. `size`: the most blanks, including those in creation.

        A blank is kept for `kept_s` seconds where it is not wanted, and for `longest_s` where it is.
        """
        self._make = make
        self._end = end
        self._lives = lives
        self._size = size
        self._kept_s = kept_s
        self._longest_s = longest_s
        self._wanted: Counter[Key] = Counter()
        self._idle: dict[Key, deque[tuple[float, Blank]]] = {}
        """Each with the time at which it was ready; the oldest first."""
        self._making: dict[Key, set[asyncio.Task[None]]] = {}
        self._takers: dict[Key, deque[asyncio.Future[Blank | None]]] = {}
        """Callers waiting for blanks in creation: never more than there are."""
        self._failed_at: dict[Key, float] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        self._paused_until = -AFTER_FAILURE_S

    @property
    def idle(self) -> int:
        """How many blanks are ready."""
        return sum(map(len, self._idle.values()))

    def foresee(self, keys: Iterable[Key]) -> None:
        """Set what will be needed next, soonest first, replacing the last call. Keys beyond `size` are ignored.

        Unwanted blanks are ended if others need their room, else after a while. Call this regularly.
        """
        wanted: Counter[Key] = Counter()
        for _, key in zip(range(self._size), keys, strict=False):
            wanted[key] += 1
        self._wanted = wanted
        self._clear_out()
        self._fill()

    async def take(self, key: Key) -> Blank | None:
        """A ready blank, or the next one in creation that has no taker. None if there is neither: the caller creates its own."""
        idle = self._idle.get(key, deque())
        while idle:
            _, blank = idle.popleft()
            if self._lives(blank):
                return self._given(key, blank)
            self._bury(blank)
        takers = self._takers.setdefault(key, deque())
        if len(self._making.get(key, ())) <= len(takers):
            return None
        waiting: asyncio.Future[Blank | None] = asyncio.get_running_loop().create_future()
        takers.append(waiting)
        try:
            made = await waiting
        except asyncio.CancelledError:
            if waiting in takers:
                takers.remove(waiting)
            elif not waiting.cancelled() and (unused := waiting.result()) is not None:
                self._keep(key, unused)
            raise
        return None if made is None else self._given(key, made)

    def give_way(self) -> bool:
        """A needed box finds no place: end one blank, and create none for a while. Returns whether there was one."""
        self._pause()
        if idle := next((idle for idle in self._idle.values() if idle), None):
            self._end_later(idle.popleft()[1])
        return idle is not None

    async def aclose(self) -> None:
        """Create no more, and end every blank."""
        self._closed = True
        making = [task for tasks in self._making.values() for task in tasks]
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)
        for waiting in [waiting for takers in self._takers.values() for waiting in takers]:
            if not waiting.done():
                waiting.set_result(None)
        for idle in self._idle.values():
            while idle:
                self._end_later(idle.popleft()[1])
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _given(self, key: Key, blank: Blank) -> Blank:
        self._wanted[key] -= 1
        return blank

    def _held(self) -> int:
        return self.idle + sum(map(len, self._making.values()))

    def _clear_out(self) -> None:
        """End dead blanks, old ones, and those that nobody has wanted for long."""
        now = asyncio.get_running_loop().time()
        left: dict[Key, deque[tuple[float, Blank]]] = {}
        for key, idle in self._idle.items():
            surplus = len(idle) - max(0, self._wanted[key])
            kept: deque[tuple[float, Blank]] = deque()
            for ready_at, blank in idle:
                if not self._lives(blank):
                    surplus -= 1
                    self._bury(blank)
                elif now - ready_at > (self._kept_s if surplus > 0 else self._longest_s):
                    surplus -= 1
                    self._end_later(blank)
                else:
                    kept.append((ready_at, blank))
            if kept:
                left[key] = kept
        self._idle = left
        self._making = {key: making for key, making in self._making.items() if making}
        self._takers = {key: takers for key, takers in self._takers.items() if takers}
        self._failed_at = {key: at for key, at in self._failed_at.items() if now - at < AFTER_FAILURE_S}

    def _bury(self, blank: Blank) -> None:
        """It did not end here: its room may be needed, so that none is created for a while."""
        self._pause()
        self._end_later(blank)

    def _pause(self) -> None:
        self._paused_until = asyncio.get_running_loop().time() + AFTER_FAILURE_S

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            return
        for key, count in self._wanted.items():
            if self._closed or now - self._failed_at.get(key, -AFTER_FAILURE_S) < AFTER_FAILURE_S:
                continue
            held = len(self._idle.get(key, ())) + len(self._making.get(key, ())) - len(self._takers.get(key, ()))
            for _ in range(count - held):
                if self._held() >= self._size and not self._make_room():
                    return
                task = asyncio.get_running_loop().create_task(self._make_one(key))
                self._making.setdefault(key, set()).add(task)
                task.add_done_callback(self._making[key].discard)

    def _make_room(self) -> bool:
        """End an unwanted blank. Returns whether there was one."""
        for key, idle in self._idle.items():
            if idle and len(idle) > self._wanted[key]:
                self._end_later(idle.popleft()[1])
                return True
        return False

    async def _make_one(self, key: Key) -> None:
        blank: Blank | None = None
        try:
            blank = await self._make(key)
            self._failed_at.pop(key, None)
        except EnvfarmError as e:
            self._failed_at[key] = asyncio.get_running_loop().time()
            log.warning("a box could not be made ahead: %s", e)
        finally:
            # All in one step, without an await: there must never be more takers than blanks in creation.
            task = asyncio.current_task()
            if task is not None:
                self._making[key].discard(task)
            takers = self._takers.get(key, deque())
            while takers and takers[0].done():  # cancelled, but its task has not run since
                takers.popleft()
            if len(takers) > len(self._making[key]) or (takers and blank is not None):
                takers.popleft().set_result(blank)
            elif blank is not None:
                self._keep(key, blank)

    def _keep(self, key: Key, blank: Blank) -> None:
        if self._closed:
            self._end_later(blank)
        else:
            self._idle.setdefault(key, deque()).append((asyncio.get_running_loop().time(), blank))

    def _end_later(self, blank: Blank) -> None:
        task = asyncio.get_running_loop().create_task(self._ended(blank))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ended(self, blank: Blank) -> None:
        try:
            await self._end(blank)
        except EnvfarmError as e:
            log.warning("a box that was made ahead could not be ended and may be left: %s", e)
