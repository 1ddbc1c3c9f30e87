"""A process that is a host and nothing else. Started by `host_processes`, with a maker's pickle on its standard input.

SIGTERM and Ctrl-C: it lets go of what it plays, which others go on with from the journal. SIGUSR1: it starts nothing more, and ends with
its last episode. It lets go, too, when its standard input ends: its driver is dead then.
"""

import asyncio
import logging
import os
import pickle
import signal
import sys

from envfarm.controller.host_processes import DRAIN, LET_GO, WRONG_USE
from envfarm.controller.host_work import HostLife, HostMaker
from envfarm.core.errors import UsageError

STDIN = 0


async def play(maker: HostMaker) -> None:
    """Play until told to end. Raises `UsageError`."""
    life, loop = HostLife(maker), asyncio.get_running_loop()
    for number in (LET_GO, signal.SIGINT):
        loop.add_signal_handler(number, lambda: life.drain(grace_s=0.0))
    loop.add_signal_handler(DRAIN, life.drain)
    loop.add_reader(STDIN, _read_on, life, loop)
    try:
        await life.run()
    finally:
        loop.remove_reader(STDIN)


def _read_on(life: HostLife, loop: asyncio.AbstractEventLoop) -> None:
    if not os.read(STDIN, 4096):
        loop.remove_reader(STDIN)
        life.drain(grace_s=0.0)


def main() -> None:
    """Read the maker, and play."""
    logging.basicConfig(level=logging.WARNING, format=f"host {os.getpid()}: %(message)s")
    for number in (LET_GO, DRAIN, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    with os.fdopen(STDIN, "rb", closefd=False) as given:
        maker = pickle.load(given)  # noqa: S301 - the driver's own words
    try:
        asyncio.run(play(maker))
    except UsageError as e:
        sys.stderr.write(f"error: {e}\n" + (f"hint: {e.hint}\n" if e.hint else ""))
        sys.exit(WRONG_USE)


if __name__ == "__main__":
    main()
