"""What a measured farm came to, read from outside of it: its database, its journals, the simulator's ledger, and the kernel's accounts.

Used by `farm` and `farm_cluster`. Each reader returns rows of the table.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from envfarm.controller.system_clock import SystemClock
from envfarm.core.ids import EpisodeId, RunId
from envfarm.sandboxes.boxd_connection import BoxdConnections, Endpoint
from envfarm.stores.episode_schema import EPISODES, EVENTS
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.sql import Sql
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.boxd_simulator.ledger import BoxPage, broken_promises
from envfarm.testing.boxd_simulator.server import DESK
from tests.bench import farm_work
from tests.bench.farm_asked import Ask
from tests.bench.measure import quantile

Row = dict[str, Any]
SAMPLED = 300
"""Episodes whose journals are read for the time between two actions."""
LOOK_S = 0.5


async def states(engine: Engine, run: RunId) -> dict[str, int]:
    """How many of a rollout's episodes are in which state."""
    count = select(EPISODES.c.state, func.count()).where(EPISODES.c.run_id == run).group_by(EPISODES.c.state)
    return dict(await Sql(engine).read("states", lambda c: [(row[0], row[1]) for row in c.execute(count)]))


async def watched(
    engine: Engine, run: RunId, ask: Ask, live: Callable[[], Awaitable[int]] | None = None, *, until_all_live: bool = False
) -> Row:
    """Look until every episode is over: how many live at once, and when all do. `live` tells it where the database cannot."""
    began, most, all_live_s, given_up = time.perf_counter(), 0, 0.0, ""
    while True:
        found = await states(engine, run)
        running = found.get("running", 0) if live is None else min(await live(), found.get("running", 0))
        taken = time.perf_counter() - began
        most = max(most, running)
        if most == ask.pods and not all_live_s:
            all_live_s = taken
        if (all_live_s and until_all_live) or not (found.get("running") or found.get("pending")):
            break
        if taken > ask.most_s:
            given_up = f"after {taken:.0f} s: {found}"
            break
        await asyncio.sleep(LOOK_S)
    row: Row = {"given up": given_up} if given_up else {}
    return row | {"live at once, at most": most, "all live after s": all_live_s or "never", "all over after s": taken}


async def outcomes(engine: Engine, run: RunId) -> Row:
    """Each episode's outcome, against what its agent deserves."""
    episodes = SqlEpisodes(engine, SystemClock())
    rows = await episodes.episodes(run)
    found = await episodes.outcomes([row.spec.episode_id for row in rows])
    wrong = [r for r in rows if not farm_work.as_it_should(r.spec.seed, found.get(r.spec.episode_id))]
    again = select(func.count()).where(EPISODES.c.run_id == run, EPISODES.c.epoch > 1)
    played_again = await Sql(engine).read("played again", lambda c: c.scalar(again))
    row: Row = {"outcomes: right, wrong": f"{len(rows) - len(wrong)}, {len(wrong)}", "episodes played again": played_again}
    return row | {f"wrong: {one.spec.episode_id}": f"{one.state} {found.get(one.spec.episode_id)}"[:300] for one in wrong[:3]}


async def ledger(port: int, pods: int) -> Row:
    """What the simulator says it was asked."""
    desk = BoxdConnections(Endpoint(host=DESK, port=port), token="-", epoch=0)
    said = await desk.request("GET", "/ledger", timeout_s=60, max_bytes=1 << 30)
    desk.close()
    pages = [BoxPage(**page) for page in json.loads(said.body)]
    return {
        "boxes configured": len(pages),
        "requests to boxds per episode": sum(page.requests for page in pages) / pods,
        "broken promises": len(list(broken_promises(pages))),
    }


async def journals(engine: Engine, trajectories: Path, ask: Ask, run: RunId) -> Row:
    """What the farm adds to an episode's own time, from what it wrote down: before, between and after its actions."""
    store = FileTrajectories(trajectories)
    events = select(EVENTS.c.kind, EVENTS.c.at, EVENTS.c.body).where(EVENTS.c.rollout_id == run).order_by(EVENTS.c.number)
    rows = await Sql(engine).read("events", lambda c: [tuple(row) for row in c.execute(events)])
    begun = {json.loads(body)["episode"]: at for kind, at, body in rows if kind == "started"}
    ended = [(json.loads(body)["episode"], at) for kind, at, body in rows if kind == "ended"]
    claims, gaps, last = [], [], []
    for episode, at in ended[:: max(1, len(ended) // SAMPLED)]:
        steps = (await store.read(EpisodeId(episode))).steps
        claims += [step.started_at.timestamp() - begun[episode] for step in steps[:1]]
        gaps += [1e3 * ((b.started_at - a.started_at).total_seconds() - a.duration_s) for a, b in pairwise(steps)]
        last += [at - step.started_at.timestamp() for step in steps[-1:]]
    return {
        "actions each, median s": f"{ask.actions}, {ask.median_s:.3g}",
        "claim to first action p50, p99 s": quantiles(claims),
        "an action beyond its own time p50, p99 ms": quantiles(gaps),
        "outcome after the last action p50, p99 s": quantiles(last),
    }


def quantiles(values: list[float]) -> str:
    """The middle and the slow end."""
    return f"{quantile(values, 0.5) or 0:.1f}, {quantile(values, 0.99) or 0:.1f} (n={len(values)})"


def cpu_s(pid: int) -> float:
    """What a process has used, its threads' with it; 0 for one that is gone."""
    with suppress(OSError):
        used = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident; 0 for one that is gone."""
    with suppress(OSError):
        said = Path(f"/proc/{pid}/status").read_text()
        return next((int(line.split()[1]) / 1024 for line in said.splitlines() if line.startswith("VmHWM:")), 0.0)
    return 0.0


def named(names: Iterable[str]) -> dict[str, list[int]]:
    """The processes of this machine that have these names."""
    found: dict[str, list[int]] = {name: [] for name in names}
    for place in Path("/proc").glob("[0-9]*/comm"):
        with suppress(OSError):
            if (name := place.read_text().strip()) in found:
                found[name].append(int(place.parent.name))
    return found
