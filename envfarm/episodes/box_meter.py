"""A box's meter: how long making it took, how many there are, and what it used, put on a bill when it goes.

Whoever makes a box in this room makes and closes it through a meter: the runner for agents' boxes, the grader for its own.
"""

import asyncio
import logging
from typing import Literal

from envfarm.core.errors import EnvfarmError, SandboxError, boundary
from envfarm.core.observing import Observer
from envfarm.core.protocols import Box, SandboxProvider
from envfarm.core.sandbox import BoxStats, SandboxSpec
from envfarm.core.usage import Bill, of_box

STATS_S = 5.0
"""How long a box may take to say what it used: one that will not say is closed all the same."""
Purpose = Literal["agent", "grading"]
log = logging.getLogger(__name__)


class BoxMeter:
    """Of one box."""

    def __init__(self, spec: SandboxSpec, purpose: Purpose, bill: Bill, observer: Observer) -> None:
        self._spec = spec
        self._purpose = purpose
        self._bill = bill
        self._observer = observer
        self._asked_at = asyncio.get_running_loop().time()

    async def create(self, provider: SandboxProvider) -> Box:
        """Make the box. Raises what the provider raises; a box that could not be made is on no bill."""
        with self._observer.span("create", sandbox=provider.name, purpose=self._purpose):
            box = await provider.create(self._spec)
        self._observer.shift("boxes", 1, purpose=self._purpose)
        return box

    async def close(self, box: Box) -> None:
        """Ask the box what it used, remove it, and put it on the bill, whether or not it answers. Raises what closing raises.

        Called off while it asks, it closes the box all the same.
        """
        stats: BoxStats | None = None
        try:
            stats = await self._stats(box)
        finally:
            try:
                await box.close()
            finally:
                self._bill.add(of_box(self._spec, asyncio.get_running_loop().time() - self._asked_at, stats))
                self._observer.shift("boxes", -1, purpose=self._purpose)

    async def _stats(self, box: Box) -> BoxStats | None:
        try:
            with boundary(SandboxError, "asking a box what it used"):
                async with asyncio.timeout(STATS_S):
                    return await box.stats()
        except EnvfarmError as e:
            log.info("box %s is closed without a word on what it used: %s", box.box_id, e)
            return None
