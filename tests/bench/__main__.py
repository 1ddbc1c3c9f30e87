"""`make bench`: measures beside peers and floors, and prints a table. It asserts nothing: the reader compares with the targets.

Sections are chosen with `--only`. Peers are measured in the same run, in turn with ours; one that is missing is named with the reason.
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable

from envfarm.cli import console
from envfarm.core.errors import EnvfarmError
from envfarm.settings import read
from envfarm.wiring import Farm
from tests.bench import actions, episodes, many_boxes, memory, minting, starts
from tests.bench.machine import Bench, in_words
from tests.bench.measure import COLUMNS, Row

SECTIONS: dict[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    "actions": actions.rows,
    "starts": starts.rows,
    "many": many_boxes.rows,
    "episodes": episodes.rows,
    "memory": memory.rows,
    "minting": minting.rows,
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"sections, by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--image", default="python:3.13-slim", help="for Docker: an image with Python that this machine has")
    parser.add_argument("--harbor", default="", help="the command that runs Harbor, such as 'uvx harbor'")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    chosen = parser.parse_args()
    names = [name for name in chosen.only.split(",") if name] or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    asyncio.run(measure(names, image=chosen.image, harbor=shlex.split(chosen.harbor), quick=chosen.quick))


async def measure(names: list[str], *, image: str, harbor: list[str], quick: bool) -> None:
    """Every section in turn, each printed when it is done."""
    async with Farm(read()) as farm:
        bench = Bench(farm=farm, image=image, harbor=harbor, quick=quick)
        for name in names:
            machine = in_words()
            try:
                found = await SECTIONS[name](bench)
            except EnvfarmError as e:
                console.say(f"{name}: cannot be measured here: {e}")
                continue
            sys.stdout.write(f"{name}: {machine}\n")
            sys.stdout.flush()
            console.table("", COLUMNS, [row.cells() for row in found])


if __name__ == "__main__":
    main()
