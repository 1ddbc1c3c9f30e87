"""Measures a box: how long creating it took, how many boxes there are, and what it used, which goes on the bill when it closes.

In this package every box is created and closed through a meter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from envfarm.core.errors import EnvfarmError, SandboxError, boundary
from envfarm.core.ids import BoxId, ExecId
from envfarm.core.observing import Observer
from envfarm.core.protocols import Adopts, Box, SandboxProvider
from envfarm.core.sandbox import BoxStats, SandboxSpec
from envfarm.core.usage import Bill, of_box

STATS_S = 5.0
"""How long a box may take to report its usage. It is closed even if it does not answer."""
Purpose = Literal["agent", "grading"]
log = logging.getLogger(__name__)


class BoxMeter:
    """Measures one box."""

    def __init__(self, spec: SandboxSpec, purpose: Purpose, bill: Bill, observer: Observer) -> None:
        self._spec = spec
        self._purpose = purpose
        self._bill = bill
        self._observer = observer
        self._asked_at = asyncio.get_running_loop().time()
        self._adopted: BoxStats | None = None
        """What an adopted box had used by then."""

    async def create(self, provider: SandboxProvider) -> Box:
        """Create the box. Raises what the provider raises; a box that could not be created is not billed."""
        with self._observer.span("create", sandbox=provider.name, purpose=self._purpose):
            box = await provider.create(self._spec)
        self._observer.shift("boxes", 1, purpose=self._purpose)
        return box

    async def adopt(self, provider: Adopts, box: BoxId, *, but: Sequence[ExecId]) -> Box | None:
        """See `Adopts.adopt`. What the box uses from now on goes on this bill."""
        adopted = await provider.adopt(self._spec, box, but=but)
        if adopted is not None:
            self._observer.shift("boxes", 1, purpose=self._purpose)
            self._adopted = BoxStats()
            try:
                self._adopted = await self._stats(adopted) or self._adopted
            except asyncio.CancelledError:  # nobody has it yet who would close it
                await self.close(adopted)
                raise
        return adopted

    async def leave(self, provider: Adopts, box: Box) -> None:
        """See `Adopts.leave`. What the box has used so far goes on this bill."""
        await self._end(box, lambda: provider.leave(box.box_id))

    async def close(self, box: Box) -> None:
        """Ask the box for its usage, remove it, and put it on the bill even if it did not answer. Raises what closing raises.

        If cancelled while asking, it still closes the box.
        """
        await self._end(box, box.close)

    async def _end(self, box: Box, end: Callable[[], Awaitable[None]]) -> None:
        stats: BoxStats | None = None
        try:
            stats = await self._stats(box)
        finally:
            try:
                await end()
            finally:
                seconds = asyncio.get_running_loop().time() - self._asked_at
                self._bill.add(of_box(self._spec, seconds, stats, adopted=self._adopted))
                self._observer.shift("boxes", -1, purpose=self._purpose)

    async def _stats(self, box: Box) -> BoxStats | None:
        try:
            with boundary(SandboxError, "asking a box for its usage"):
                async with asyncio.timeout(STATS_S):
                    return await box.stats()
        except EnvfarmError as e:
            log.info("closing box %s, which did not report its usage: %s", box.box_id, e)
            return None
