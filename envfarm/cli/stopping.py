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
WORDS = "stopped; finished work is kept, and the same command continues from there"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end. On Ctrl-C or SIGTERM it is cancelled, closes its boxes and stores, and the process exits at once.

    A thread that waits for a server or for git cannot be cancelled, and `asyncio.run` would wait for it for minutes. What such threads
    write is either complete or continued by the next run, so nothing is lost by abandoning them.
    """
    runner = asyncio.Runner()

    async def until_told() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            loop.remove_signal_handler(signal.SIGTERM)  # a second one ends the program immediately
            if task is not None:
                task.cancel()

        # SIGINT cannot be used: shells make their background commands ignore it.
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
