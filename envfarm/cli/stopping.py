"""Running what may be stopped at any time, by Ctrl-C or by SIGTERM. Called by commands whose threads wait for networks and programs."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from envfarm.cli import console

T = TypeVar("T")
STOPPED = 130
WORDS = "stopped; what was done is kept, the same command goes on from there"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. On Ctrl-C or SIGTERM it is cancelled, closes its boxes and stores, and then the program is gone at once.

    A thread that waits for a server or for git cannot be cancelled, and `asyncio.run` would wait for it, minutes long. What such threads
    write is whole or a part that the next run goes on with, so that leaving them behind loses nothing.
    """
    runner = asyncio.Runner()

    async def until_told() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            loop.remove_signal_handler(signal.SIGTERM)  # a second one ends the program as it is
            if task is not None:
                task.cancel()

        # Not by way of SIGINT, which a shell has its background commands ignore.
        loop.add_signal_handler(signal.SIGTERM, stop)
        return await work

    try:
        return runner.run(until_told())
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.say(WORDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(STOPPED)
    finally:
        runner.close()
