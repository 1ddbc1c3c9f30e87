"""`make bench`: measures beside peers and floors, and prints a table. It asserts nothing: the reader compares with the targets.

Sections are chosen with `--only`. Peers are measured in the same run, in turn with ours; one that is missing is named with the reason.
"""

import argparse
import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from envfarm.cli import console
from envfarm.core.errors import EnvfarmError
from envfarm.settings import read
from envfarm.wiring import Farm
from tests.bench import actions, dumps, episodes, gateway, many_boxes, memory, minting, pods, service, starts
from tests.bench.machine import Bench, in_words
from tests.bench.measure import COLUMNS, Row

SECTIONS: dict[str, Callable[[Bench], Awaitable[list[Row]]]] = {
    "actions": actions.rows,
    "starts": starts.rows,
    "many": many_boxes.rows,
    "episodes": episodes.rows,
    "gateway": gateway.rows,
    "service": service.rows,
    "pods": pods.rows,
    "memory": memory.rows,
    "minting": minting.rows,
    "dumps": dumps.rows,
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"sections, by commas: {', '.join(SECTIONS)}")
    parser.add_argument("--image", default="python:3.13-slim", help="for Docker: an image with Python that this machine has")
    parser.add_argument("--harbor", default="", help="the command that runs Harbor, such as 'uvx harbor'")
    parser.add_argument("--quick", action="store_true", help="fewer samples")
    parser.add_argument("--dump-rows", type=int, default=0, help="rows of the made-up dump; 10000000 takes 8 GB of disk and minutes")
    parser.add_argument("--pod-image", default="", help="for pods (ENVFARM_KUBERNETES): an image with a shell, by digest")
    chosen = parser.parse_args()
    names = [name for name in chosen.only.split(",") if name] or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    wanted = {
        "image": chosen.image,
        "harbor": shlex.split(chosen.harbor),
        "quick": chosen.quick,
        "dump_rows": chosen.dump_rows,
        "pod_image": chosen.pod_image,
    }
    asyncio.run(measure(names, **wanted))


async def measure(names: list[str], **wanted: Any) -> None:
    """Every section in turn, each printed when it is done."""
    async with Farm(read()) as farm:
        bench = Bench(farm=farm, **wanted)
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
