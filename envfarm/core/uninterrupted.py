"""Blocking work in a thread, such that a cancelled caller still knows whether it happened.

For what is cleaned up afterwards: a thread cannot be stopped, and a caller that went away at once would clean up while its own work is
still on the way.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], threads: Executor | None = None) -> T:
    """Do `work` in one of these threads, or of the event loop's. A cancellation is raised only after it has ended."""
    doing = asyncio.ensure_future(asyncio.get_running_loop().run_in_executor(threads, work))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait({doing})
        if not doing.cancelled():
            doing.exception()  # seen: it is the cancellation that is told
        raise
