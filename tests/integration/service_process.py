"""A service's process for `test_service_crashes.py`: asks for one rollout by key, plays it over in-memory boxes, and is its own trainer.

    python -m tests.integration.service_process HOME POINT N

It ends itself, as by kill -9, when the named fault point is reached for the N-th time. `POINT` `stop` has it stop itself, as by SIGSTOP, in
the N-th action, at a moment at which it holds no lock of the database. Says each group that it leased, and then that it acknowledged it.
"""

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import LeaseRequest, RolloutRequest, TaskSelector
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.testing.faults import DieAt
from envfarm.testing.scripted_box import ScriptedBox
from envfarm.testing.small_service import A, SmallService, echo

TASKS, MEMBERS = 8, 3
REQUEST = RolloutRequest(
    tasks=TaskSelector(names=tuple(f"made-up/t{n}" for n in range(TASKS))), group_size=MEMBERS, policy=PolicySpec(name="nop")
)


def stopping_at(home: Path, times: int) -> SmallService:
    """A service that stops itself."""
    left = times

    async def answer(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        nonlocal left
        left -= 1
        if left == 0:
            with closing(sqlite3.connect(home / "farm.db", timeout=30, isolation_level=None)) as alone:
                alone.execute("BEGIN IMMEDIATE")
                alone.execute("ROLLBACK")
            os.kill(os.getpid(), signal.SIGSTOP)
        return await echo(box, request)

    farm = SmallService(home, lease_s=1.0)
    farm.provider.answer = answer
    return farm


async def play(farm: SmallService) -> None:
    await farm.open(tasks=TASKS)
    async with farm.playing():
        rollout = await farm.service.submit(A, REQUEST, key="crash")
        while True:
            for group in await farm.service.lease_results(A, LeaseRequest(limit=2, wait_s=0.5, lease_s=0.5)):
                say(f"had {group.result.group} {group.result.version} {group.result.complete} {len(group.result.members)}")
                if (await farm.service.acknowledge(A, [group.lease])).acknowledged:
                    say(f"acknowledged {group.result.group}")
            if (await farm.service.get(A, rollout.id)).groups == {"acknowledged": TASKS}:
                break
    await farm.close()
    say("complete")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    home, point, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    asyncio.run(play(stopping_at(home, times) if point == "stop" else SmallService(home, faults=DieAt(point, times))))
