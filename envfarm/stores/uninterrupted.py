"""Blocking work of the stores, in a thread, such that a cancelled caller still knows whether it happened.

Used by the stores that write files and databases. A thread cannot be stopped: a caller that went away at once would clean up while its
own write is still on the way.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """Do `work` in a thread. A cancellation is raised only after it has ended."""
    doing = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        if not doing.cancelled():
            doing.exception()  # seen: it is the cancellation that is told
        raise
