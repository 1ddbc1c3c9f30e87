"""A farm's process for `test_pool_crashes.py`: plays a run of episodes over in-memory boxes, and dies where it is told to.

`python -m tests.integration.pool_process HOME POINT N` ends itself, as by kill -9, when the named fault point is reached for the N-th time.
"""

import asyncio
import sys
from pathlib import Path

from envfarm.controller.attempts import Role
from envfarm.controller.local_pool import LocalPool, PoolOptions, PoolParts
from envfarm.controller.owners import Owners
from envfarm.core.action import Action, Bash, Finish
from envfarm.core.episode import EpisodeSpec
from envfarm.core.ids import RunId
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.episodes.runner import EpisodeRunner
from envfarm.policies.scripted import Scripted
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.sql import open_sqlite
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import CannedGrader, HeldClock, make_environment, make_spec, make_task
from envfarm.testing.faults import DieAt
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider

RUN = RunId("crashes")
SPECS = [make_spec(n, run=RUN) for n in range(24)]
SCRIPT: list[Action] = [Bash(command="one"), Bash(command="two"), Finish()]


async def echo(_: ScriptedBox, request: ExecRequest) -> ExecResult:
    return ExecResult(exit_code=0, stdout=request.shell.encode())


async def cast(_: EpisodeSpec) -> Role:
    return Role(make_task(), make_environment(), Scripted(SCRIPT))


async def play(home: Path, faults: DieAt) -> None:
    episodes = SqlEpisodes(open_sqlite(home / "farm.db"), HeldClock(), faults=faults)
    await episodes.open()
    trajectories = FileTrajectories(home / "trajectories", faults=faults)
    runner = EpisodeRunner(ScriptedProvider(answer=echo), CannedGrader(), trajectories, HeldClock(), faults=faults)
    parts = PoolParts(episodes, trajectories, runner, Owners(home / "owners"), cast)
    # More tries than deaths: which episodes a death hits is chance, and giving up is not what is looked at here.
    report = await LocalPool(parts, PoolOptions(boxes=3, retries=9)).run(RUN, SPECS)
    await episodes.close()
    sys.stdout.write("complete\n" if report.complete else "incomplete\n")


if __name__ == "__main__":
    asyncio.run(play(Path(sys.argv[1]), DieAt(sys.argv[2], int(sys.argv[3]))))
