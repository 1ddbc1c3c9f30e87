"""A queue as long as one likes on one service, of a tenant that asks for far more than can be played, and another that comes late.

    python -m tests.integration.api.queue_pressure [--rollouts 10000] [--database postgresql://…]

Every rollout is asked for over HTTP. Says what asking took at the queue's beginning and end, by how much memory the service grew, what the
tenant hears at its bound, and after how many turns the other tenant was served. `test_pressure.py` does the same with a few hundred.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from envfarm.api.app import create_app
from envfarm.core.action import Decision
from envfarm.core.episode import EpisodeSpec
from envfarm.core.rollout import Quota
from envfarm.core.trajectory import Step
from envfarm.policies.scripted import Scripted
from envfarm.stores.access import SCOPES
from envfarm.stores.sql import open_database
from envfarm.testing.served import served
from envfarm.testing.small_service import SCRIPT, A, B, SmallService

ONE: dict[str, Any] = {"tasks": {"names": ["made-up/t0"]}, "group_size": 1, "policy": {"name": "nop"}}
AT_ONCE = 8
LATE = 5
"""Rollouts of the tenant that comes late."""
TURNS = 40
"""Episodes that are let through then."""


def resident_mib() -> float:
    """Of this process, which is the service and whoever asks it."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Turnstile:
    """Policies that go on one by one, so that a queue stands for as long as somebody looks at it."""

    def __init__(self) -> None:
        self.started: list[EpisodeSpec] = []
        self._through = asyncio.Semaphore(0)

    def let(self, many: int) -> None:
        """Let so many episodes go on."""
        for _ in range(many):
            self._through.release()

    def __call__(self, spec: EpisodeSpec) -> Scripted:
        """The policy of an episode."""
        self.started.append(spec)
        through = self._through

        class Waits(Scripted):
            async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
                if not history:
                    await through.acquire()
                return await super().next_action(instruction, history)

        return Waits(SCRIPT)


@dataclass
class Seen:
    """What came of it."""

    statuses: set[int] = field(default_factory=set)
    asked_ms: list[float] = field(default_factory=list)
    """For each rollout, in the order of the answers."""
    grown_mib: float = 0.0
    refusals: list[httpx.Response] = field(default_factory=list)
    """Of the tenant that has all that it may."""
    pending: int = 0
    """Of its episodes, at the end."""
    late: set[str] = field(default_factory=set)
    """The other tenant's rollouts."""
    served: set[str] = field(default_factory=set)
    """Those of them whose results came."""
    turns: int = 0
    """Episodes that began after they were asked for, up to the last of theirs."""


async def press(farm: SmallService, mine: httpx.AsyncClient, theirs: httpx.AsyncClient, many: int) -> Seen:
    """Fill a playing farm's queue with so many rollouts of tenant `a`; then tenant `b` comes."""
    gate, seen = Turnstile(), Seen()
    farm.policy = gate
    await farm.access.add_tenant(A, Quota(unfinished_episodes=many, active_rollouts=many))
    before = resident_mib()
    left = iter(range(many))

    async def asks() -> None:
        for _ in left:
            began = time.perf_counter()
            seen.statuses.add((await mine.post("/v1/rollouts", json=ONE)).status_code)
            seen.asked_ms.append((time.perf_counter() - began) * 1e3)

    await asyncio.gather(*(asks() for _ in range(AT_ONCE)))
    seen.grown_mib = resident_mib() - before
    seen.refusals = [await mine.post("/v1/rollouts", json=ONE) for _ in range(3)]
    seen.late = {(await theirs.post("/v1/rollouts", json=ONE)).json()["id"] for _ in range(LATE)}
    played = len(gate.started)
    gate.let(TURNS)
    while len(seen.served) < len(seen.late):
        found = (await theirs.post("/v1/results/lease", json={"limit": 8, "wait_s": 30})).json()["groups"]
        if not found:
            break
        seen.served |= {group["result"]["rollout"] for group in found}
    seen.turns = max((n for n, spec in enumerate(gate.started[played:], 1) if spec.run_id in seen.late), default=0)
    seen.pending = (await mine.get("/v1/me/use")).json()["episodes"]["pending"]
    return seen


async def main(many: int, database: str) -> int:
    """One farm, pressed."""
    with tempfile.TemporaryDirectory() as home:
        farm = SmallService(Path(home), engine=open_database(database) if database else None)
        await farm.open(tasks=1)
        async with AsyncExitStack() as held:
            await held.enter_async_context(farm.playing())
            url = await held.enter_async_context(served(create_app(farm.services)))
            clients = []
            for tenant in (A, B):
                token = await farm.access.issue(tenant, "t", SCOPES - {"admin", "metrics"})
                client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=120)
                clients.append(await held.enter_async_context(client))
            began = time.perf_counter()
            seen = await press(farm, clients[0], clients[1], many)
            tell(seen, many, time.perf_counter() - began)
        await farm.close()
    return int(seen.served != seen.late)


def tell(seen: Seen, many: int, seconds: float) -> None:
    """In lines."""
    part = max(many // 10, 1)
    lines = [f"{many} rollouts of one tenant in {seconds:.0f} s, {AT_ONCE} asked for at once; answers {sorted(seen.statuses)}"]
    for what, taken in (("first", seen.asked_ms[:part]), ("last", seen.asked_ms[-part:])):
        ordered = sorted(taken)
        lines.append(f"asking, the {what} {part}: p50 {ordered[len(ordered) // 2]:.1f} ms, p99 {ordered[len(ordered) * 99 // 100]:.1f} ms")
    lines.append(f"memory of service and clients grew by {seen.grown_mib:.1f} MiB")
    lines.append(f"at the bound: {[(r.status_code, r.headers.get('retry-after')) for r in seen.refusals]}")
    lines.append(
        f"the late tenant: {len(seen.served)} of {len(seen.late)} rollouts, the last as episode {seen.turns}; {seen.pending} still wait"
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=10_000)
    parser.add_argument("--database", default="", help="Of the farm. SQLite where absent.")
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.rollouts, given.database)))
