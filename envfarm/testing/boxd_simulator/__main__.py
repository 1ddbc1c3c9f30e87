"""`python -m envfarm.testing.boxd_simulator`: the simulator as a process of its own, until it is stopped.

It prints its port once it listens. `--script package.module:name` names a `Script`.
"""

import argparse
import asyncio
import importlib
import resource
import signal
import sys
from typing import cast

from envfarm.testing.boxd_simulator.script import Delays, Script, no_script
from envfarm.testing.boxd_simulator.server import BoxdSimulator


def main() -> None:
    """Parse, and serve."""
    parser = argparse.ArgumentParser(prog="boxd_simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 draws one")
    parser.add_argument("--script", default="", help="what boxes do, as package.module:name")
    parser.add_argument("--seed", type=int, default=0, help="of the delays")
    parser.add_argument("--median-s", type=float, default=0.0, help="of an agent's run; 0 has everything happen at once")
    parser.add_argument("--longest-s", type=float, default=60.0, help="of an agent's run")
    parser.add_argument("--addresses-recur", action="store_true", help="another token at an address is another box")
    chosen = parser.parse_args()
    allow_many_connections()
    delays = Delays(seed=chosen.seed, median_s=chosen.median_s, longest_s=chosen.longest_s)
    simulator = BoxdSimulator(script=load_script(chosen.script), delays=delays, addresses_recur=chosen.addresses_recur)
    asyncio.run(serve(simulator, chosen.port))


def load_script(name: str) -> Script:
    """The script of this name; none for an empty one."""
    if not name:
        return no_script
    module, _, attribute = name.partition(":")
    return cast("Script", getattr(importlib.import_module(module), attribute))


def allow_many_connections() -> None:
    """As many open files as this process may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve(simulator: BoxdSimulator, port: int) -> None:
    """Until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await simulator.start(port)
    sys.stdout.write(f"{simulator.port}\n")
    sys.stdout.flush()
    await stopped.wait()
    await simulator.close()


if __name__ == "__main__":
    main()
