"""Where a storm on a cluster takes place: a namespace, a database, the farm's processes, wires between them, and neighbours.

Everything is made by `opened`, and gone after its block. Faults reach what they harm through this.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple, TypeVar

import psycopg
import urllib3

from envfarm.sandboxes import boxd_binary
from envfarm.settings import Settings, read
from envfarm.testing import postgres
from envfarm.testing.served import free_port
from envfarm.wiring import Farm
from tests.chaos import processes
from tests.chaos.cluster import made_tasks, truth
from tests.chaos.cluster.http_wire import HttpWire
from tests.chaos.cluster.kube import Json, Kube
from tests.chaos.cluster.part import Part
from tests.chaos.cluster.ray_part import RayPart
from tests.chaos.ground import Neighbour
from tests.contract import kubernetes_cluster

ROOT = Path(__file__).parents[3]
PROGRAM = (sys.executable, "-c", "from envfarm.cli.main import main; main()")
HOST_PROCESSES = ("envfarm.controller.host_process", "ray::RayHost")
HOST_LEASE_S, MAKER_LEASE_S = 8, 12
TASKS = 4
P = TypeVar("P", bound=Part)


class Asked(NamedTuple):
    """What a person says of a storm."""

    kubeconfig: Path
    on_ray: bool
    hosts: int
    episodes_per_host: int
    image: str
    warm: int
    runtime_class: str
    keep: bool
    faketime: Path | None
    """The library, where clocks are to jump."""


class Field:
    """One storm's place."""

    def __init__(self, asked: Asked, directory: Path) -> None:
        self.asked = asked
        self.directory = directory
        self.kube = Kube(asked.kubeconfig, directory)
        self.agents: dict[str, str] = {}
        """Rollout → who plays in it."""
        self.pods: dict[str, Json] = {}
        """Every pod that was seen, by uid."""
        self.killed_makers = 0
        """Processes that made boxes, and were not let end in good order."""
        self.token = secrets.token_urlsafe(24)
        self.postgres: postgres.Cluster
        self.database: str
        self.image: str
        self.api_wire: HttpWire
        self.registry_wire: HttpWire
        self.api: Part
        self.driver: Part
        self.ray: RayPart | None = None
        self.neighbour: Neighbour
        self.asks: Callable[[str, int, str], int]
        """Has an agent's groups played, on one task or (empty) all in turn; how many episodes. See `trainer`."""

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def settings(self) -> Settings:
        return read().model_copy(update={"home": self.home, "database": self.database, "kubernetes": self.directory / "options.toml"})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def hosts(self) -> list[int]:
        """The processes that play."""
        return [process.pid for process in processes.below(os.getpid()) if any(name in process.command for name in HOST_PROCESSES)]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database, again where it is not to be had."""
        while True:
            try:
                with closing(psycopg.connect(self.database, autocommit=True)) as connection:
                    return list(connection.execute(query.encode(), values))
            except psycopg.OperationalError:
                time.sleep(0.2)

    def now(self) -> float:
        """The database's clock."""
        return float(self.rows("SELECT extract(epoch FROM clock_timestamp())")[0][0])

    def running(self) -> dict[str, str]:
        """Episodes that are played now, and the host that has each."""
        return dict(self.rows("SELECT id, owner FROM episodes WHERE state = 'running' AND run_id = ANY(%s)", list(self.agents)))

    def unfinished(self) -> int:
        query = "SELECT count(*) FROM episodes WHERE state IN ('pending', 'running') AND run_id = ANY(%s)"
        return int(self.rows(query, list(self.agents))[0][0])

    def last_line(self, episode: str) -> Json:
        """Of an episode's record; nothing where it has none yet."""
        with suppress(OSError, ValueError, IndexError):
            found: Json = json.loads((self.home / "runs/trajectories" / f"{episode}.jsonl").read_bytes().splitlines()[-1])
            return found
        return {}

    def put_task(self, name: str, image: str) -> None:
        """One more task, of this image (`repository@sha256:…`)."""
        reference = f"{self.registry_wire.address}/{image}"

        async def put() -> None:
            async with Farm(self.settings) as farm:
                await made_tasks.put(farm, name, reference)

        asyncio.run(put())

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Make it all, and take it down: processes in good order, then what they were made on."""
        tools = postgres.programs()
        if tools is None:
            raise SystemExit(postgres.HOW_TO_GET)
        with ExitStack() as stack:
            self.postgres = stack.enter_context(postgres.cluster(tools))
            self.database = self.postgres.database()
            stack.enter_context(self.kube.own_namespace())
            self.api_wire = stack.enter_context(HttpWire(self.kube.server, self.kube.pool))
            registry = f"http://{kubernetes_cluster.REGISTRY}"
            self.registry_wire = stack.enter_context(HttpWire(registry, urllib3.PoolManager(maxsize=32)))
            stack.enter_context(self._seeing_pods())
            self._prepare()
            self.api = stack.enter_context(_running(self._part("api", self._serve(), {})))
            if self.asked.on_ray:
                self.ray = RayPart(env=self._env("options.toml"), log=self.directory / "ray.log", cwd=ROOT)
                stack.enter_context(_running(self.ray))
            self.driver = stack.enter_context(_running(self._driver()))
            self.neighbour = Neighbour("the farm in the same namespace", self._env("neighbour.toml"), "tests.chaos.cluster.neighbour")
            stack.callback(self._end_neighbour)
            yield

    def _prepare(self) -> None:
        for name in ("home", "tmp"):
            (self.directory / name).mkdir()
        boxd = kubernetes_cluster.push_boxd(boxd_binary.find(), self.directory / "tmp")
        self.image = self.asked.image or kubernetes_cluster.push(kubernetes_cluster.IMAGE, "library/python:3.11-slim")
        harmed = f'apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: "http://{self.api_wire.address}"}}}}]\n'
        context = "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n"
        (self.directory / "kubeconfig").write_text(harmed + context)
        for file, kubeconfig in (("options.toml", self.directory / "kubeconfig"), ("neighbour.toml", self.asked.kubeconfig)):
            said = {
                "boxd_image": boxd,
                "namespace": self.kube.namespace,
                "kubeconfig": str(kubeconfig),
                "lease_s": MAKER_LEASE_S,
                "cpu_requested": 0.02,
                "start_s": 120,
                "warm": self.asked.warm if file == "options.toml" else 0,
                "runtime_class": self.asked.runtime_class,
                "own_kernel": bool(self.asked.runtime_class),
            }
            # JSON's strings and numbers are TOML's.
            (self.directory / file).write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items()))
        self._port = free_port()
        (self.directory / "token").write_text(self.token)
        for number in range(TASKS):
            self.put_task(f"made-up/adds-{number}", self.image.partition("/")[2])
        truth.put_witness(self.database)

    def _env(self, options: str) -> dict[str, str]:
        places = {
            "ENVFARM_HOME": str(self.home),
            "ENVFARM_DATABASE": self.database,
            "ENVFARM_KUBERNETES": str(self.directory / options),
            "ENVFARM_TOKEN_FILE": str(self.directory / "token"),
            "ENVFARM_TEST_IMAGE": self.image,
            "TMPDIR": str(self.directory / "tmp"),
        }
        return {**read().variables, **places, "PATH": os.defpath, "HOME": str(Path.home())}

    def _serve(self) -> Sequence[str]:
        return (*PROGRAM, "serve", "--hosts", "none", "--sandbox", "kubernetes", "--port", str(self._port))

    def _driver(self) -> Part:
        count, most = str(self.asked.hosts), str(self.asked.episodes_per_host)
        words = ["--count", count, "--episodes", most, "--sandbox", "kubernetes", "--lease", str(HOST_LEASE_S)]
        where, more, ends_by = ["--on", "processes"], self._faked_clocks(), signal.SIGTERM
        if self.ray is not None:
            where, more = ["--on", "ray", "--address", f"127.0.0.1:{self.ray.port}", "--cpus-per-host", "0.5"], self.ray.variables
            ends_by = signal.SIGUSR1  # hosts outlive a driver that is stopped
        return self._part("hosts", (*PROGRAM, "hosts", *where, *words), more, ends_by)

    def _faked_clocks(self) -> dict[str, str]:
        if self.asked.faketime is None:
            return {}
        self.set_clocks(0)
        said = {"LD_PRELOAD": str(self.asked.faketime), "FAKETIME_TIMESTAMP_FILE": str(self.directory / "clock")}
        return {**said, "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}

    def set_clocks(self, offset_s: int) -> None:
        """Of hosts: so many seconds off."""
        (self.directory / "clock").write_text(f"{offset_s:+d}\n")

    def _part(self, name: str, argv: Sequence[str], more: Mapping[str, str], ends_by: signal.Signals = signal.SIGTERM) -> Part:
        env = {**self._env("options.toml"), **more}
        return Part(name, argv, env=env, log=self.directory / f"{name}.log", cwd=ROOT, ends_by=ends_by)

    @contextmanager
    def _seeing_pods(self) -> Iterator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(1.0):
                with suppress(Exception):  # a cluster that is being harmed
                    self.pods |= {pod["metadata"]["uid"]: pod for pod in self.kube.pods()}

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _end_neighbour(self) -> None:
        with suppress(subprocess.SubprocessError, OSError):
            self.neighbour.end()


@contextmanager
def _running(part: P) -> Iterator[P]:
    part.start()
    try:
        yield part
    finally:
        part.stop()


@contextmanager
def field(asked: Asked, place: Path) -> Iterator[Field]:
    """A storm's place below a directory, gone afterwards unless it is to be kept."""
    directory = Path(mkdtemp(prefix="envfarm-chaos-", dir=place))
    directory.chmod(0o755)
    made = Field(asked, directory)
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with made.opened():
            yield made
    finally:
        signal.signal(signal.SIGTERM, previous)
        if not asked.keep:
            subprocess.run(["rm", "-rf", str(directory)], check=False)
