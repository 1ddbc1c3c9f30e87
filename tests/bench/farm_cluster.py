"""A farm on a cluster's fake nodes: its own provider of pods, its own hosts on Ray or in processes, PostgreSQL, journals. Called by `farm`.

The simulator stands behind the pods' addresses, which fake nodes take from loopback. Nothing else is simulated: hosts are made by
`wiring_hosts`, as `envfarm hosts` makes them. Pods that were made are counted by the API server, statements by PostgreSQL.
"""

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import Connection, Engine, text

from envfarm.controller.bells import CALLED_OFF, Bells
from envfarm.controller.host_driver import Fleet
from envfarm.controller.system_clock import SystemClock
from envfarm.core import digest
from envfarm.core.ids import BoxId
from envfarm.core.image import BlobRef, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.core.task import Task
from envfarm.sandboxes import kubernetes_options, kubernetes_pod
from envfarm.scheduling.host_count import Scale
from envfarm.settings import Settings
from envfarm.stores.bell_wire import wire_of
from envfarm.stores.blobs import FileBlobStore
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.rollouts import SqlRollouts
from envfarm.stores.sql import Sql, open_database
from envfarm.testing import postgres
from envfarm.wiring_hosts import HostPlan, driver_on, processes
from tests.bench import farm_asked, farm_pods, farm_seen, farm_work
from tests.bench.farm_asked import TENANT, Ask
from tests.bench.farm_seen import Row
from tests.bench.farm_simulator import Simulator, simulator

IMAGE = ImageRef(kind="oci", digest=digest.of_bytes(b"simulated"), reference=f"simulated.invalid/box@{digest.of_bytes(b'simulated')}")
OF_THE_CLUSTER = ("kube-apiserver", "etcd", "kube-scheduler", "kube-controller", "kwok")
BESIDE = ("postgres", "raylet", "gcs_server")
GONE_S = 900.0
LOOK_S = 0.25
RELEASE = "bench"


@dataclass(frozen=True)
class Cluster:
    """Where pods are made, and what is asked of it beside."""

    kubeconfig: Path
    bare_pods: int
    cancel: bool


@dataclass(frozen=True)
class _Farm:
    """What is measured, while it runs."""

    ask: Ask
    engine: Engine
    tasks: list[Task]
    client: httpx.AsyncClient
    pods: farm_pods.Namespace
    settings: Settings
    hosts: Sequence[int]
    boxes: Simulator


async def measure(ask: Ask, cluster: Cluster) -> Row:
    """One size, from nothing to nothing."""
    tools = postgres.programs()
    if tools is None:
        raise SystemExit(postgres.HOW_TO_GET)
    async with AsyncExitStack() as held:
        home = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="envfarm-farm-")))
        database = held.enter_context(postgres.cluster(tools))
        _count_statements(database)
        client = await held.enter_async_context(farm_pods.connected(cluster.kubeconfig))
        pods = await held.enter_async_context(farm_pods.namespace(client))
        settings = _settings(home, database.database(), cluster.kubeconfig, pods.name)
        row = await farm_pods.bare(client, _bodies(settings, min(ask.pods, cluster.bare_pods)))
        boxes = held.enter_context(simulator(ask.median_s, f"--port={kubernetes_pod.PORT}", "--addresses-recur"))
        engine = open_database(settings.database)
        held.callback(engine.dispose)
        catalogue = TaskCatalogue(settings.catalogue)
        held.callback(catalogue.close)
        checkout = await FileBlobStore(settings.blobs).put(farm_work.CHECKOUT)
        tasks = await farm_asked.prepare(engine, catalogue, ask, farm_work.environment(checkout, IMAGE))
        async with _hosts(ask, settings) as hosts:
            farm = _Farm(ask, engine, tasks, client, pods, settings, hosts, boxes)
            row |= await _played(farm)
            if cluster.cancel:
                row |= await _called_off(farm)
        return row | {"left when the hosts have ended: pods, leases": f"{await pods.count()}, {await pods.count('leases')}"}


async def _played(farm: _Farm) -> Row:
    """One rollout, played and graded to its end."""
    ask, engine = farm.ask, farm.engine
    watched = {name: pids for name, pids in farm_seen.named((*OF_THE_CLUSTER, *BESIDE)).items() if pids}
    used = {pid: farm_seen.cpu_s(pid) for pids in (*watched.values(), farm.hosts) for pid in pids}
    before, peak = await farm_pods.requests_so_far(farm.client), 0
    await _statements(engine, "SELECT pg_stat_statements_reset()")
    run = await farm_asked.rollout(engine, farm.tasks, ask, "played", "kubernetes")

    async def live() -> int:
        nonlocal peak
        now = await farm.pods.count()
        peak = max(peak, now)
        return now

    row = await farm_seen.watched(engine, run, ask, live)
    row["pods gone after the last outcome, s"] = await _until_none(farm.pods)
    asked = _difference(await farm_pods.requests_so_far(farm.client), before)
    row["pods: needed, made, at once at most"] = f"{2 * ask.pods}, {asked['POST pods']}, {peak}"
    row["API requests per episode"] = sum(asked.values()) / ask.pods
    row["of these"] = ", ".join(f"{what} {count / ask.pods:.1f}" for what, count in asked.most_common(8))
    row |= await _sql(engine, ask.pods)
    for name, pids in (("the hosts", farm.hosts), *farm_seen.named(watched).items()):
        row[f"CPU s of {name}"] = sum(farm_seen.cpu_s(pid) - used.get(pid, 0.0) for pid in pids)
    row["MiB of each host at most"] = ", ".join(f"{farm_seen.peak_mib(pid):.0f}" for pid in farm.hosts)
    row["CPU s, MiB of the simulator"] = f"{farm_seen.cpu_s(farm.boxes.pid):.0f}, {farm_seen.peak_mib(farm.boxes.pid):.0f}"
    row |= await farm_seen.ledger(farm.boxes.port, ask.pods)
    row |= await farm_seen.outcomes(engine, run)
    return row | await farm_seen.journals(engine, farm.settings.runs / "trajectories", ask, run)


async def _called_off(farm: _Farm) -> Row:
    """Another rollout, called off when all of it lives."""
    run = await farm_asked.rollout(farm.engine, farm.tasks, farm.ask, "called-off", "kubernetes")
    seen = await farm_seen.watched(farm.engine, run, farm.ask, farm.pods.count, until_all_live=True)
    pods, began, wire = await farm.pods.count(), time.perf_counter(), wire_of(farm.engine)
    carrying = asyncio.create_task(wire.run(lambda _: None))
    try:
        await SqlRollouts(farm.engine, SystemClock()).cancel(TENANT, run, "measured")
        said_s = time.perf_counter() - began
        Bells(wire.send).ring(CALLED_OFF)
        await _until_none(farm.pods)
    finally:
        carrying.cancel()
    gone_s = time.perf_counter() - began
    live_s = seen["all live after s"]
    return {
        "again: all live after s": live_s,
        "called off with so many pods: said after s, zero after s": f"{pods}: {said_s:.1f}, {gone_s:.1f}",
    }


async def _until_none(pods: farm_pods.Namespace) -> float:
    """Seconds until no pod is there."""
    began = time.perf_counter()
    async with asyncio.timeout(GONE_S):
        while await pods.count():  # noqa: ASYNC110 - the measured farm has the watch
            await asyncio.sleep(LOOK_S)
    return time.perf_counter() - began


def _difference(after: Counter[str], before: Counter[str]) -> Counter[str]:
    return Counter({what: count - before[what] for what, count in after.items() if count > before[what]})


def _settings(home: Path, database: str, kubeconfig: Path, namespace: str) -> Settings:
    options = home / "kubernetes.toml"
    said = {"namespace": namespace, "kubeconfig": str(kubeconfig), "boxd_image": "simulated.invalid/boxd", "farm": "bench"}
    fake = 'node_selector = { type = "kwok" }\ntolerations = [{ key = "kwok.x-k8s.io/node" }]\n'
    options.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()) + fake)
    return Settings(home=home, parallel=1, database=database, kubernetes=options)


def _bodies(settings: Settings, count: int) -> list[dict[str, object]]:
    """Pods as the farm itself would ask for them."""
    options = kubernetes_options.load(settings.kubernetes)
    environment = farm_work.environment(BlobRef(digest=digest.of_bytes(b""), size_bytes=0), IMAGE)
    spec = SandboxSpec.within(farm_work.tasks(1)[0].limits, environment)
    maker, more = kubernetes_pod.Maker(options.farm, "bare"), {"token_digest": "0" * 64, "options": options, "now": time.time()}
    return [kubernetes_pod.manifest(spec, BoxId(f"bare-{n}"), maker=maker, **more) for n in range(count)]  # type: ignore[arg-type]


@asynccontextmanager
async def _hosts(ask: Ask, settings: Settings) -> AsyncIterator[Sequence[int]]:
    """Hosts that play, kept alive by a driver; their processes."""
    each = -(-ask.pods // ask.hosts)
    plan = HostPlan(settings=settings, sandbox="kubernetes", episodes=each, beside=ask.hosts)
    async with AsyncExitStack() as held:
        if ask.on == "ray":
            from envfarm.controller.ray_pool import RayPlace, on_ray  # noqa: PLC0415 - of the extra `ray`

            fleet: Fleet = await held.enter_async_context(on_ray(plan, RayPlace(own_cpus=ask.hosts, release=RELEASE)))
        else:
            fleet = await held.enter_async_context(processes(plan))
        driver = await held.enter_async_context(driver_on(fleet, plan, Scale(least=ask.hosts, most=ask.hosts, per_host=each), ""))
        driving = asyncio.create_task(driver.run())
        try:
            while len(names := await fleet.hosts()) < ask.hosts:  # noqa: ASYNC110 - a driver tells nobody that it has started all
                await asyncio.sleep(LOOK_S)
            yield await _pids(names, ask)
        finally:
            driving.cancel()
            await asyncio.gather(driving, return_exceptions=True)
            await driver.stop(grace_s=0.0)


async def _pids(names: Sequence[str], ask: Ask) -> Sequence[int]:
    if ask.on == "processes":
        return [int(name.removeprefix("host-")) for name in names]
    import ray  # noqa: PLC0415 - of the extra `ray`

    return [await (await asyncio.to_thread(ray.get_actor, name)).process.remote() for name in names]


def _count_statements(database: postgres.Cluster) -> None:
    """Have the server count them: not those of this process's view of them, but all that it carries out."""
    database.run(
        "psql", "-h", str(database.place), "-U", "farm", "-c", "ALTER SYSTEM SET shared_preload_libraries = pg_stat_statements", "postgres"
    )
    database.restart("fast")


async def _statements(engine: Engine, query: str) -> list[tuple[object, ...]]:
    create = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"

    def ask(c: Connection) -> list[tuple[object, ...]]:
        c.execute(text(create))
        return [tuple(row) for row in c.execute(text(query))]

    return await Sql(engine).write("statements", ask)


async def _sql(engine: Engine, episodes: int) -> Row:
    """How many statements an episode took, and the three that took longest in all."""
    counted = "FROM pg_stat_statements WHERE query !~* '^(begin|commit|rollback|set|listen|create)'"
    ((calls, busy_s),) = await _statements(engine, f"SELECT sum(calls), sum(total_exec_time) / 1000 {counted}")
    longest = await _statements(
        engine,
        f"SELECT calls, total_exec_time / 1000, left(regexp_replace(query, '\\s+', ' ', 'g'), 90) {counted} ORDER BY 2 DESC LIMIT 3",
    )
    row: Row = {"SQL statements per episode, the server's s": f"{float(str(calls)) / episodes:.1f}, {float(str(busy_s)):.0f}"}
    return row | {f"longest SQL {n}": f"{calls} calls, {float(str(s)):.1f} s: {query}" for n, (calls, s, query) in enumerate(longest, 1)}
