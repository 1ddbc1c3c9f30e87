"""`python -m tests.bench.farm --pods 100,1000`: a farm of this size on simulated boxes, with real hosts, PostgreSQL and journal.

`--kubeconfig FILE` has the farm's own provider make pods on a cluster's fake nodes (kwok), with the simulator behind their addresses, and
hosts on Ray; see `farm_cluster`. Prints a table per size. Outcomes are read from the database and checked one by one; what boxes were
asked is read from the simulator's ledger. Everything is on this machine's loopback, bounded in number and time, and gone at the end.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, get_args

from envfarm.cli import console
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.sql import open_database
from envfarm.testing import postgres
from tests.bench import farm_asked, farm_cluster, farm_seen
from tests.bench.farm_asked import Ask, Where
from tests.bench.farm_host import HostOrder
from tests.bench.farm_simulator import simulator

FIRST = IPv4Address("127.64.0.1")
APART = 1 << 18
"""Addresses of one host's boxes."""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.farm", description=__doc__)
    parser.add_argument("--pods", default="100", help="sizes, by commas")
    parser.add_argument("--hosts", type=int, default=2, help="host processes")
    parser.add_argument("--actions", type=int, default=20, help="of each episode")
    parser.add_argument("--median-s", type=float, default=0.0, help="of an action; 0 draws it so that the cores are not full")
    parser.add_argument("--most-s", type=float, default=1800.0, help="after which a size is given up")
    parser.add_argument("--kubeconfig", type=Path, help="of a cluster with fake nodes: boxes are pods there")
    parser.add_argument("--on", type=_ways, default=("ray",), help="in a cluster, where hosts live: ray or processes, by commas to compare")
    parser.add_argument(
        "--bare", type=int, default=1000, help="in a cluster: so many pods at most are made by a client that does nothing else"
    )
    parser.add_argument("--cancel", action="store_true", help="in a cluster: ask for as many again, and call them off when all live")
    parser.add_argument("--profile", default="", help="on simulated boxes: a file for cProfile's figures of the first host")
    chosen = parser.parse_args()
    for pods in map(int, chosen.pods.split(",")):
        median_s = chosen.median_s or max(1.0, pods / 300)
        ask = Ask(pods, chosen.hosts, chosen.actions, median_s, chosen.most_s, profile=chosen.profile)
        if chosen.kubeconfig:
            asked = farm_cluster.Cluster(chosen.kubeconfig.absolute(), bare_pods=chosen.bare, cancel=chosen.cancel)
            rows = {f"on {on}": asyncio.run(farm_cluster.measure(replace(ask, on=on), asked)) for on in chosen.on}
            _tell(f"{pods} pods", rows)
        else:
            _tell(f"{pods} boxes", {"seen": asyncio.run(measure(ask))})


def _ways(said: str) -> tuple[Where, ...]:
    ways = get_args(Where)
    if unknown := set(said.split(",")) - set(ways):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: there are {' and '.join(ways)}")
    return tuple(way for way in ways if way in said.split(","))


def _tell(what: str, rows: dict[str, farm_seen.Row]) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    sys.stdout.write(f"{what}: load {load} on {os.cpu_count()} cores\n")
    sys.stdout.flush()
    names = dict.fromkeys(name for row in rows.values() for name in row)
    columns, ratio = ("what", *rows), ("ratio",) * (len(rows) > 1)
    lines = [(name, *(_shown(row.get(name, "")) for row in rows.values()), *_ratio(name, rows)) for name in names]
    console.table("", (*columns, *ratio), lines)


def _ratio(name: str, rows: dict[str, farm_seen.Row]) -> tuple[str, ...]:
    """Of the first to the last, for figures that have one."""
    if len(rows) == 1:
        return ()
    first, *_, last = (row.get(name) for row in rows.values())
    return (f"{first / last:.2f}",) if isinstance(first, float) and isinstance(last, float) and last else ("",)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


async def measure(ask: Ask) -> farm_seen.Row:
    """One size, from nothing to nothing."""
    tools = postgres.programs()
    if tools is None:
        raise SystemExit(postgres.HOW_TO_GET)
    row: farm_seen.Row = {}
    with ExitStack() as held:
        home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="envfarm-farm-")))
        url = held.enter_context(postgres.cluster(tools)).database()
        boxes = held.enter_context(simulator(ask.median_s))
        engine = open_database(url)
        held.callback(engine.dispose)
        catalogue = TaskCatalogue(home / "catalogue")
        held.callback(catalogue.close)
        run = await farm_asked.rollout(engine, await farm_asked.prepare(engine, catalogue, ask), ask, "farm")
        hosts = held.enter_context(_hosts(ask, url, home, boxes.port))
        row |= await farm_seen.watched(engine, run, ask)
        told = await asyncio.to_thread(_stopped, hosts)
        row["hosts' CPU s, MiB at most"] = f"{sum(t['cpu_s'] for t in told):.1f}, {sum(t['peak_mib'] for t in told):.0f}"
        if "given up" not in row:
            row["actions per CPU s of the hosts"] = ask.pods * ask.actions / sum(t["cpu_s"] for t in told)
        row["SQL statements per episode"] = sum(t["statements"] for t in told) / ask.pods
        row["box to be had p50, p99 ms"] = farm_seen.quantiles([1e3 * s for t in told for s in t["created_s"]])
        row |= await farm_seen.ledger(boxes.port, ask.pods)
        row |= await farm_seen.outcomes(engine, run)
        row |= await farm_seen.journals(engine, home / "trajectories", ask, run)
        row["simulator's CPU s"] = farm_seen.cpu_s(boxes.pid)
    return row


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


if __name__ == "__main__":
    main()
