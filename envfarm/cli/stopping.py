"""Runs work that may be stopped at any time by Ctrl-C or SIGTERM, for commands with threads that wait for networks and programs."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from envfarm.cli import console

T = TypeVar("T")
STOPPED = 130
STOPPED_MESSAGE = "stopped; finished work is kept, and the same command continues from there"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. On Ctrl-C or SIGTERM it is cancelled, closes its boxes and stores, and the process exits at once.

    A thread that waits for a server or for git cannot be cancelled, and `asyncio.run` would wait for it for minutes. What such threads
    write is either complete or continued by the next run, so nothing is lost by abandoning them.
    """
    runner = asyncio.Runner()
    try:
        return runner.run(until_sigterm(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.say(STOPPED_MESSAGE)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(STOPPED)
    finally:
        runner.close()


async def until_sigterm(work: Coroutine[Any, Any, T]) -> T:
    """The work, cancelled at SIGTERM; a second one ends the program immediately. To be awaited by the main thread's first task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        if task is not None:
            task.cancel()

    # Not by way of SIGINT, which shells make their background commands ignore.
    loop.add_signal_handler(signal.SIGTERM, stop)
    return await work
