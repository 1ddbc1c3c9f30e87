"""Settings → objects: the only place that knows concrete adapters. Called by the command line, the task builders' commands and the API."""

import asyncio
import importlib.metadata
import secrets
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import httpx
from sqlalchemy import Engine

from envfarm.controller.attempts import Role
from envfarm.controller.local_pool import LocalPool, PoolEvent, PoolOptions, PoolParts
from envfarm.controller.owners import Owners
from envfarm.controller.system_clock import SystemClock
from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import ImageError, StoreError, UsageError, boundary
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import TaskDigest
from envfarm.core.image import BlobRef, Environment
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.protocols import Foresees, Holds, ImageBuilder, Models, Player, SandboxProvider, TrajectoryStore
from envfarm.core.sandbox import SandboxSpec
from envfarm.core.task import Task
from envfarm.episodes.grader import SandboxGrader
from envfarm.episodes.runner import EpisodeRunner
from envfarm.images import scratch
from envfarm.images.layer_store import LayerStore
from envfarm.images.local_layers import LayerDirectories, LocalLayerBuilder
from envfarm.images.registry import Registry
from envfarm.images.registry_builder import RegistryBuilder
from envfarm.images.toolchains import Toolchains
from envfarm.policies.registry import PolicyInputs, make, scaffold_of
from envfarm.sandboxes import boxd_binary, kubernetes_options
from envfarm.sandboxes.local import LocalProvider
from envfarm.scaffolds.layers import ScaffoldLayers
from envfarm.scaffolds.registry import Scaffolds
from envfarm.settings import Settings
from envfarm.stores import whole_files
from envfarm.stores.blobs import FileBlobStore
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.sql import count_statements, open_database, open_sqlite
from envfarm.stores.trajectories import FileTrajectories

if TYPE_CHECKING:
    from envfarm.images.docker_build import DockerBuilder

SANDBOXES = ("local", "docker", "kubernetes")
KEPT_TASKS = 2_000
"""Of which tasks played last the environments are kept in memory."""
K = TypeVar("K")
V = TypeVar("V")


class Farm:
    """Everything on this machine. Objects are made when they are first asked for, and let go of when the block ends."""

    def __init__(
        self,
        settings: Settings,
        *,
        models: Models | None = None,
        key_of: Callable[[str], str] = lambda _: "",
        faults: FaultPoints = NO_FAULTS,
        observer: Observer = UNOBSERVED,
    ) -> None:
        """`models` is what programs in boxes may ask, where there are any; `key_of` an address says which key a chat policy sends there;
        `faults` is for chaos tests.
        """
        self.models = models
        self._key_of = key_of
        self.observer = observer
        self.settings = settings
        self.faults = faults
        self._providers: dict[str, SandboxProvider] = {}
        self._environments: dict[tuple[TaskDigest, str], asyncio.Future[Environment]] = {}
        self._boxes: dict[tuple[TaskDigest, str], SandboxSpec] = {}

    async def __aenter__(self) -> Self:
        """Open the stores."""
        await self.episodes.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every box that is still open, and give back what is held."""
        for provider in self._providers.values():
            await provider.aclose()
        await self.episodes.close()
        if "catalogue" in self.__dict__:
            self.catalogue.close()
        if "_registry" in self.__dict__:
            await self._registry.__aexit__()
        if "_http" in self.__dict__:
            await self._http.aclose()

    @cached_property
    def blobs(self) -> FileBlobStore:
        """Content-addressed files."""
        return FileBlobStore(self.settings.blobs)

    @cached_property
    def catalogue(self) -> TaskCatalogue:
        """The tasks."""
        return TaskCatalogue(self.settings.catalogue)

    @cached_property
    def episodes(self) -> SqlEpisodes:
        """Runs, episodes and outcomes."""
        return SqlEpisodes(self.database, SystemClock(), faults=self.faults)

    @cached_property
    def database(self) -> Engine:
        """Where runs, rollouts and outcomes are kept."""
        url = self.settings.database
        engine = open_database(url) if url else open_sqlite(self.settings.runs / "episodes.sqlite")
        if self.observer is not UNOBSERVED:
            count_statements(engine, self.observer)
        return engine

    @cached_property
    def trajectories(self) -> FileTrajectories:
        """What happened in episodes."""
        return FileTrajectories(self.settings.runs / "trajectories", blobs=self.blobs, faults=self.faults)

    @cached_property
    def toolchains(self) -> Toolchains:
        """Interpreters that boxes can have."""
        return Toolchains(self.settings.toolchains, uv=uv_program(), downloads=True, variables=self.settings.variables)

    def provider(self, name: str) -> SandboxProvider:
        """The provider of boxes of this name. Raises `UsageError` for one that there is not."""
        if name not in self._providers:
            match name:
                case "local":
                    self._providers[name] = LocalProvider(self.settings.home, boxd_binary.find(), self.blobs, faults=self.faults)
                case "docker":
                    with _extra("docker", "docker", "requests"):
                        from envfarm.sandboxes.docker import DockerProvider  # noqa: PLC0415 - an extra, and slow to import
                    self._providers[name] = DockerProvider(self.settings.home, boxd_binary.find(), self.blobs)
                case "kubernetes":
                    options = kubernetes_options.load(self.settings.kubernetes)
                    with _extra("kubernetes", "kubernetes", "urllib3"):
                        from envfarm.sandboxes.kubernetes import KubernetesProvider  # noqa: PLC0415 - see above
                    self._providers[name] = KubernetesProvider(options, self.blobs, key=self._pods_key())
                case _:
                    raise UsageError(f"no sandbox {name!r}", hint=f"there are {', '.join(SANDBOXES)}")
        return self._providers[name]

    def _pods_key(self) -> bytes:
        """The key that all hosts of this home derive pods' tokens from. Raises `StoreError`."""
        path, fresh = self.settings.home / "pods.key", secrets.token_bytes(32)
        with boundary(StoreError, "keeping the key of pods' boxes"):
            key = whole_files.kept_first(path, fresh)
        if len(key) != len(fresh):
            hint = "stop all hosts and remove it: the next one makes another"
            raise StoreError(f"{path} holds no key: it has {len(key)} bytes, and a key has {len(fresh)}", hint=hint)
        return key

    def builder(self, name: str) -> ImageBuilder:
        """The builder of environments for a provider."""
        if name == "kubernetes":
            notes = self.settings.home / "environments"
            return RegistryBuilder(lambda: self._docker_builder, self._registry, notes=notes, blobs=self.blobs)
        if name == "docker":
            return self._docker_builder
        provider, variables = self.provider(name), self.settings.variables
        places = LayerDirectories(layers=self.settings.layers, cache=self.settings.cache, faults=self.faults)
        return LocalLayerBuilder(provider, places, blobs=self.blobs, toolchains=self.toolchains, uv=uv_program(), variables=variables)

    @cached_property
    def attached(self) -> ScaffoldLayers:
        """Scaffolds, and the layers that they are."""
        layers = LayerStore(self.settings.layers)
        return ScaffoldLayers(Scaffolds(self.settings.scaffolds), lambda: self.builder("local"), lambda one: layers.find(one) is not None)

    @cached_property
    def _docker_builder(self) -> "DockerBuilder":
        provider, version, cache = self.provider("docker"), importlib.metadata.version("uv"), self.settings.cache / "docker"
        from envfarm.images.docker_build import DockerBuilder  # noqa: PLC0415 - see `provider`, which says what is missing

        return DockerBuilder(provider, cache, blobs=self.blobs, uv_version=version, variables=self.settings.variables)

    @cached_property
    def _registry(self) -> Registry:
        if not self._registry_prefix:
            hint = "say where: ENVFARM_REGISTRY=host/path, or `registry` in the file of ENVFARM_KUBERNETES"
            raise UsageError("environments of pods are pushed to a registry, and nothing names one", hint=hint)
        return Registry(self._registry_prefix, docker_config=self.settings.docker_config)

    @cached_property
    def _registry_prefix(self) -> str:
        if self.settings.registry or self.settings.kubernetes is None:
            return self.settings.registry
        return kubernetes_options.load(self.settings.kubernetes).registry

    def grader(self, name: str) -> SandboxGrader:
        """A grader in this provider's boxes."""
        return SandboxGrader(self.provider(name), observer=self.observer)

    async def collect_left_overs(self, sandbox: str) -> int:
        """Remove what killed farms of this home left: boxes, half layers, half files, locks; how many boxes. The living's stay."""
        boxes = await self.provider(sandbox).collect_left_overs()
        await asyncio.to_thread(self._collect_files)
        return boxes

    def _collect_files(self) -> None:
        LayerStore(self.settings.layers).collect()
        self.blobs.collect()
        self.catalogue.collect()
        self.toolchains.collect()
        scratch.collect()

    async def environment(self, task: Task, sandbox: str) -> Environment:
        """What the task's boxes are made of, made now where it is not there, or no more. Raises `ImageError`, `SandboxError`."""
        key = (task.digest, sandbox)
        environment = await (self._made(key, task) if self.builds(sandbox) else self._brought(task, sandbox))
        _keep(self._boxes, key, SandboxSpec.within(task.limits, environment))
        return environment

    async def _brought(self, task: Task, sandbox: str) -> Environment:
        """What was brought with the task, read each time: another one may have been brought since, in place of it."""
        brought = await self.catalogue.environment(task.digest, sandbox)
        if brought is None:
            raise ImageError(f"{task.name} has no environment here", hint="`envfarm tasks push` brings one, or name a registry to build it")
        return brought

    async def _made(self, key: tuple[TaskDigest, str], task: Task) -> Environment:
        made = self._environments.get(key)
        if made is not None and made.done() and not await self._stands(made, key[1]) and self._environments.get(key) is made:
            del self._environments[key]
        made = self._environments.get(key) or asyncio.ensure_future(self._build(task, key[1]))
        _keep(self._environments, key, made)
        return await asyncio.shield(made)

    async def _stands(self, made: asyncio.Future[Environment], sandbox: str) -> bool:
        """Whether it was made, and all of it is still there."""
        if made.cancelled() or made.exception() is not None:
            return False
        provider = self.provider(sandbox)
        return not isinstance(provider, Holds) or await provider.holds(made.result())

    def builds(self, sandbox: str) -> bool:
        """Whether environments are made here. A farm whose options name no registry cannot push: they are brought with their tasks."""
        return sandbox != "kubernetes" or bool(self._registry_prefix)

    async def _build(self, task: Task, sandbox: str) -> Environment:
        checkout = None
        if task.checkout is not None:
            checkout = BlobRef(digest=task.checkout, size_bytes=len(await self.blobs.get(task.checkout)))
        return (await self.builder(sandbox).build(task.recipe, checkout=checkout)).environment

    async def agent_box(self, task: Task, sandbox: str) -> SandboxSpec:
        """The box that an agent gets for a task."""
        return SandboxSpec.within(task.limits, await self.environment(task, sandbox))

    def foresee(self, sandbox: str, tasks: Sequence[TaskDigest]) -> None:
        """Tell the provider which tasks' boxes will be asked for next. Those that were not played here lately are passed over."""
        provider = self.provider(sandbox)
        if isinstance(provider, Foresees):
            provider.foresee([self._boxes[task, sandbox] for task in tasks if (task, sandbox) in self._boxes])

    def pool(self, sandbox: str, *, boxes: int, progress: Callable[[PoolEvent], None]) -> LocalPool:
        """A pool that plays episodes in this provider's boxes."""
        runner = self.runner(sandbox)
        collect = partial(self.collect_left_overs, sandbox)
        parts = PoolParts(self.episodes, self.trajectories, runner, Owners(self.settings.runs / "owners"), self.cast, collect=collect)
        return LocalPool(parts, PoolOptions(boxes=boxes), progress=progress)

    def runner(self, sandbox: str, journal: TrajectoryStore | None = None) -> EpisodeRunner:
        """Plays single episodes in this provider's boxes. `journal` stands for the farm's own trajectories."""
        journal = journal or self.trajectories
        provider, grader, clock = self.provider(sandbox), self.grader(sandbox), SystemClock()
        return EpisodeRunner(provider, grader, journal, clock, faults=self.faults, observer=self.observer)

    async def cast(self, spec: EpisodeSpec) -> Role:
        """What an episode is played with. Raises `StoreError`, `ImageError`, `UsageError`."""
        task = await self.catalogue.get(spec.task)
        policy, environment = self.policy(spec, task), await self.environment(task, spec.sandbox)
        name = scaffold_of(spec.policy)
        return Role(task, environment, policy, await self.attached.to(environment, name, spec.sandbox) if name else None)

    def policy(self, spec: EpisodeSpec, task: Task) -> Player:
        """A fresh policy for one episode. Raises `UsageError` naming the option that is wrong."""
        scaffold = self.attached.scaffolds.find
        return make(spec.policy, task, PolicyInputs(spec.sampling_seed, self._http, self._key_of, self.models, scaffold))

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=None)  # noqa: S113 - the policy sets each request's


def _keep(kept: dict[K, V], key: K, value: V) -> None:
    """Put it in as the newest, and drop the oldest where there are too many."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > KEPT_TASKS:
        del kept[next(iter(kept))]


@contextmanager
def _extra(name: str, *packages: str) -> Iterator[None]:
    """Imports of an extra of envfarm's. Raises `UsageError` where one of its packages is not installed."""
    try:
        yield
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in packages:
            raise
        raise UsageError(f"the client for boxes in {name.capitalize()} is not installed", hint=f"pip install 'envfarm[{name}]'") from e


def uv_program() -> Path:
    """The uv program of this installation. Raises `UsageError` where there is none."""
    for folder in (sysconfig.get_path("scripts"), None):
        if found := shutil.which("uv", path=folder):
            return Path(found).resolve()
    raise UsageError("uv is not installed", hint="pip install 'envfarm[mint]'")
