"""`python -m tests.bench.farm --pods 100,1000`: a farm of this size on simulated boxes, with real hosts, PostgreSQL and journal.

Prints a line per size. Outcomes are read from the database and checked one by one; what boxes were asked is read from the simulator's
ledger. Everything is on this machine's loopback, bounded in number and time, and gone at the end.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from envfarm.cli import console
from envfarm.controller.system_clock import SystemClock
from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.ids import EpisodeId, RunId, TenantId, episode_id
from envfarm.core.rollout import Quota, RolloutRequest, TaskSelector
from envfarm.core.task import Task
from envfarm.core.validation import ValidationReport
from envfarm.sandboxes.boxd_connection import BoxdConnections, Endpoint
from envfarm.stores.access import SqlAccess
from envfarm.stores.catalogue import Origin, TaskCatalogue
from envfarm.stores.episode_schema import EPISODES, EVENTS
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.rollouts import NewRollout, SqlRollouts
from envfarm.stores.sql import Sql, open_database
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing import postgres
from envfarm.testing.boxd_simulator.ledger import BoxPage, broken_promises
from envfarm.testing.boxd_simulator.server import DESK
from envfarm.testing.factories import make_environment, passed_gates
from tests.bench import farm_pods, farm_work
from tests.bench.farm_host import HostOrder
from tests.bench.measure import quantile

TENANT = TenantId("bench")
FIRST = IPv4Address("127.64.0.1")
APART = 1 << 18
"""Addresses of one host's boxes."""
SAMPLED = 300
"""Episodes whose journals are read for the time between two actions."""
LOOK_S = 0.5


@dataclass
class Size:
    """What was seen at one size."""

    pods: int
    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ask:
    """What is measured."""

    pods: int
    hosts: int
    actions: int
    median_s: float
    most_s: float
    profile: str = ""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.farm", description=__doc__)
    parser.add_argument("--pods", default="100", help="sizes, by commas")
    parser.add_argument("--hosts", type=int, default=2, help="host processes")
    parser.add_argument("--actions", type=int, default=20, help="of each episode")
    parser.add_argument("--median-s", type=float, default=0.0, help="of an action; 0 draws it so that the cores are not full")
    parser.add_argument("--most-s", type=float, default=1800.0, help="after which a size is given up")
    parser.add_argument("--kubeconfig", type=Path, help="of a cluster with fake nodes: pods are measured there, made by a bare client")
    parser.add_argument("--profile", default="", help="a file for cProfile's figures of the first host")
    chosen = parser.parse_args()
    for pods in map(int, chosen.pods.split(",")):
        if chosen.kubeconfig:
            row = asyncio.run(farm_pods.bare(chosen.kubeconfig, pods))
            _tell(f"{pods} pods, made by a client that does nothing else", row)
            continue
        median_s = chosen.median_s or max(1.0, pods / 300)
        ask = Ask(pods, chosen.hosts, chosen.actions, median_s, chosen.most_s, chosen.profile)
        size = asyncio.run(measure(ask))
        _tell(f"{pods} boxes", size.row)


def _tell(what: str, row: dict[str, Any]) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    sys.stdout.write(f"{what}: load {load} on {os.cpu_count()} cores\n")
    sys.stdout.flush()
    console.table("", ("what", "seen"), [(name, _shown(value)) for name, value in row.items()])


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


async def measure(ask: Ask) -> Size:
    """One size, from nothing to nothing."""
    tools = postgres.programs()
    if tools is None:
        raise SystemExit(postgres.HOW_TO_GET)
    size = Size(ask.pods)
    with ExitStack() as held:
        home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="envfarm-farm-")))
        url = held.enter_context(postgres.cluster(tools)).database()
        simulator, port = held.enter_context(_simulator(ask.median_s))
        engine = open_database(url)
        held.callback(engine.dispose)
        rollout = await _asked_for(engine, home, ask)
        began = time.perf_counter()
        hosts = held.enter_context(_hosts(ask, url, home, port))
        await _watch(engine, size, ask, began)
        told = await asyncio.to_thread(_stopped, hosts)
        size.row["hosts' CPU s, MiB at most"] = f"{sum(t['cpu_s'] for t in told):.1f}, {sum(t['peak_mib'] for t in told):.0f}"
        if "given up" not in size.row:
            size.row["actions per CPU s of the hosts"] = ask.pods * ask.actions / sum(t["cpu_s"] for t in told)
        size.row["SQL statements per episode"] = sum(t["statements"] for t in told) / ask.pods
        size.row["box to be had p50, p99 ms"] = _quantiles([1e3 * s for t in told for s in t["created_s"]])
        await _read_ledger(port, size)
        await _read_outcomes(engine, size, rollout)
        await _read_journals(engine, home, size, ask)
        size.row["simulator's CPU s"] = await asyncio.to_thread(_cpu_s, simulator.pid)
    return size


def _cpu_s(pid: int) -> float:
    used = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _simulator(median_s: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    argv = [sys.executable, "-m", "envfarm.testing.boxd_simulator", "--script", "tests.bench.farm_work:script"]
    process = subprocess.Popen([*argv, "--median-s", str(median_s)], stdout=subprocess.PIPE, text=True)
    try:
        yield process, int(process.stdout.readline() if process.stdout else 0)
    finally:
        process.kill()
        process.wait()


@contextmanager
def _hosts(ask: Ask, url: str, home: Path, port: int) -> Iterator[list[subprocess.Popen[str]]]:
    hosts: list[subprocess.Popen[str]] = []
    try:
        for number in range(ask.hosts):
            order = HostOrder(
                database=url,
                home=str(home),
                port=port,
                first_address=str(FIRST + APART * number),
                episodes=-(-ask.pods // ask.hosts),
                actions=ask.actions,
                profile="" if number else ask.profile,
            )
            argv = [sys.executable, "-m", "tests.bench.farm_host"]
            hosts.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            stdin = hosts[-1].stdin
            if stdin is not None:
                stdin.write(order.model_dump_json() + "\n")
                stdin.flush()
        yield hosts
    finally:
        for host in hosts:
            host.kill()
            host.wait()


def _stopped(hosts: list[subprocess.Popen[str]]) -> list[dict[str, Any]]:
    for host in hosts:
        host.send_signal(signal.SIGTERM)
    return [json.loads(host.communicate(timeout=120)[0]) for host in hosts]


async def _asked_for(engine: Engine, home: Path, ask: Ask) -> RunId:
    """Schema, tenant, tasks, and one rollout of all episodes."""
    clock = SystemClock()
    await SqlEpisodes(engine, clock).open()
    await SqlAccess(engine, clock).add_tenant(TENANT, Quota(live_episodes=ask.pods, unfinished_episodes=ask.pods))
    catalogue, tasks = TaskCatalogue(home / "catalogue"), farm_work.tasks(ask.pods)
    for task in tasks:
        made = make_environment()
        report = ValidationReport(task=task.digest, environment=made, provider="local", created_at=clock.now(), gates=passed_gates())
        await catalogue.add_validated(task, report, origin=Origin(repository="farm/farm"))
    catalogue.close()
    run = RunId("farm")
    request = RolloutRequest(tasks=TaskSelector(names=tuple(t.name for t in tasks)), policy=PolicySpec(name="nop"))
    new = NewRollout(id=run, tenant=TENANT, kind="rollout", key=None, asked="", request=request, specs=_specs(run, tasks, ask))
    await SqlRollouts(engine, clock).add(new, most_unfinished=ask.pods)
    return run


def _specs(run: RunId, tasks: list[Task], ask: Ask) -> tuple[EpisodeSpec, ...]:
    places = [(tasks[n // farm_work.GROUP], n % farm_work.GROUP, n) for n in range(ask.pods)]
    policy = PolicySpec(name="nop")
    return tuple(
        EpisodeSpec(episode_id=episode_id(run, task.digest, m), run_id=run, task=task.digest, member=m, policy=policy, seed=n)
        for task, m, n in places
    )


async def _watch(engine: Engine, size: Size, ask: Ask, began: float) -> None:
    """Until every episode is over: how many are live, and when all are."""
    sql, most, all_live_s = Sql(engine), 0, 0.0
    count = select(EPISODES.c.state, func.count()).group_by(EPISODES.c.state)
    while True:
        states = dict(await sql.read("states", lambda c: [(row[0], row[1]) for row in c.execute(count)]))
        taken = time.perf_counter() - began
        most = max(most, states.get("running", 0))
        if most == ask.pods and not all_live_s:
            all_live_s = taken
        if not states.get("running") and not states.get("pending"):
            break
        if taken > ask.most_s:
            size.row["given up"] = f"after {taken:.0f} s: {states}"
            break
        await asyncio.sleep(LOOK_S)
    size.row["live at once, at most"] = most
    size.row["all live after s"] = all_live_s or "never"
    size.row["all over after s"] = taken


async def _read_outcomes(engine: Engine, size: Size, run: RunId) -> None:
    episodes = SqlEpisodes(engine, SystemClock())
    rows = await episodes.episodes(run)
    outcomes = await episodes.outcomes([row.spec.episode_id for row in rows])
    wrong = [r for r in rows if not farm_work.as_it_should(r.spec.seed, outcomes.get(r.spec.episode_id))]
    size.row["outcomes: right, wrong"] = f"{len(rows) - len(wrong)}, {len(wrong)}"
    for row in wrong[:3]:
        size.row[f"wrong: {row.spec.episode_id}"] = f"{row.state} {outcomes.get(row.spec.episode_id)}"[:300]


async def _read_ledger(port: int, size: Size) -> None:
    desk = BoxdConnections(Endpoint(host=DESK, port=port), token="-", epoch=0)
    said = await desk.request("GET", "/ledger", timeout_s=60, max_bytes=1 << 30)
    desk.close()
    pages = [BoxPage(**page) for page in json.loads(said.body)]
    size.row["boxes configured, left open"] = f"{len(pages)}, {sum(page.ended is None for page in pages)}"
    size.row["requests to boxds per episode"] = sum(page.requests for page in pages) / size.pods
    size.row["broken promises"] = len(list(broken_promises(pages)))


async def _read_journals(engine: Engine, home: Path, size: Size, ask: Ask) -> None:
    """What the farm adds to an action's own time, and how long an outcome takes after the last action, from what it wrote down."""
    sql, store = Sql(engine), FileTrajectories(home / "trajectories")
    ended = await sql.read("ends", lambda c: list(c.execute(select(EVENTS.c.at, EVENTS.c.body).where(EVENTS.c.kind == "ended"))))
    gaps, outcomes = [], []
    for at, body in ended[:: max(1, len(ended) // SAMPLED)]:
        steps = (await store.read(EpisodeId(json.loads(body)["episode"]))).steps
        gaps += [1e3 * ((b.started_at - a.started_at).total_seconds() - a.duration_s) for a, b in pairwise(steps)]
        outcomes += [at - step.started_at.timestamp() for step in steps[-1:]]
    size.row["actions each, median s"] = f"{ask.actions}, {ask.median_s:.3g}"
    size.row["an action beyond its own time p50, p99 ms"] = _quantiles(gaps)
    size.row["outcome after the last action p50, p99 s"] = _quantiles(outcomes)


def _quantiles(values: list[float]) -> str:
    return f"{quantile(values, 0.5) or 0:.1f}, {quantile(values, 0.99) or 0:.1f} (n={len(values)})"


if __name__ == "__main__":
    main()
