"""Kill farms at bad moments, restart them, and look at what is left.

    python -m tests.chaos --episodes 200 --kills 20
    python -m tests.chaos --parts service --episodes 1000 --kills 50 --sleeps 10

Exits 1 with complaints where an outcome is missing, doubled or wrong, or where anything is left behind or a neighbour was touched.
"""

import argparse
import random
import shutil
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

from tests.chaos import builds, processes, runs, services
from tests.chaos.ground import Ground

PARTS = ("run", "service", "build")
HOMES = Path("/var/tmp")
"""Of farms: boxes of other users can see it, and it is a disk."""


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill farms at bad moments, and look at what is left.")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20, help="of `envfarm run`, and of `envfarm serve`, at random moments")
    parser.add_argument("--sleeps", type=int, default=4, help="of `envfarm serve`, past its lease, at random moments")
    parser.add_argument("--build-kills", type=int, default=6, help="of `envfarm build`, at random moments (needs a package registry)")
    parser.add_argument("--parts", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest-s", type=float, default=6.0, help="a farm's longest life before it is killed")
    parser.add_argument("--keep", action="store_true", help="leave homes and logs behind")
    options = parser.parse_args()
    processes.become_reaper()
    complaints = 0
    for part in PARTS:
        if options.parts in (part, "all"):
            complaints += _part(part, options)
    return 1 if complaints else 0


def _part(part: str, options: argparse.Namespace) -> int:
    directory = Path(mkdtemp(prefix="envfarm-chaos-", dir=HOMES))
    directory.chmod(0o755)
    ground = Ground(directory, random.Random(options.seed), options.longest_s)  # noqa: S311 - to be repeated, not secret
    began = time.monotonic()
    try:
        if part == "run":
            done = runs.storm(ground, episodes=options.episodes, kills=options.kills)
            what = f"{len(done)} runs of {options.episodes} episodes"
        elif part == "service":
            what = services.storm(ground, episodes=options.episodes, kills=options.kills, sleeps=options.sleeps)
        else:
            what = f"{builds.storm(ground, kills=options.build_kills)} records built"
    finally:
        for neighbour in ground.neighbours:
            neighbour.end()
        if not (options.keep or ground.complaints):
            shutil.rmtree(directory, ignore_errors=True)
    for death in ground.deaths:
        _say(f"killed: {death}")
    _say(f"{part}: {what}, {len(ground.deaths)} deaths, {time.monotonic() - began:.0f} s, {len(ground.complaints)} complaints")
    for complaint in ground.complaints:
        _say(f"complaint: {complaint}")
    if ground.complaints:
        _say(f"see {directory}")
    return len(ground.complaints)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
