"""Recipe → local layers: what its dependency steps leave below /opt, made in a box with the network open and kept unpacked by digest.

Made by `envfarm.wiring`, used by task builders. Steps run in a box and nowhere else: what a package's build runs is hostile. Of the host
they see the toolchain, uv and a package cache that belongs to one layer, so that no package can spoil another's.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from envfarm.core import digest
from envfarm.core.errors import BuildOutage, ImageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import Digest
from envfarm.core.image import BlobRef, BuildFacts, Built, Environment, ImageRef
from envfarm.core.protocols import BlobStore, Box, SandboxProvider
from envfarm.core.recipe import Recipe
from envfarm.core.sandbox import ExecRequest, Mount, Network
from envfarm.images.build_steps import StepLog, files_archive, run_steps
from envfarm.images.build_variables import for_builds
from envfarm.images.dockerfile import BUILD_SETTINGS, environment_variables
from envfarm.images.layer_store import LayerStore
from envfarm.images.local_system import LocalSystem, System
from envfarm.images.machine_copies import MachineCopies
from envfarm.images.project_checkout import BuildLimits, ProjectSteps
from envfarm.images.tarball import Entry, unpack
from envfarm.images.toolchains import Interpreter, Toolchains

UV_PATH = "/opt/uv-tool/bin"
"""Where build boxes see uv: a layer of its own, which the finished environment does not have."""
CACHE = "/mnt/envfarm-cache"
CERTIFICATES = "/mnt/envfarm-certificates/ca.pem"


class LayerDirectories(NamedTuple):
    """Where a builder works: directories of the farm's home."""

    layers: Path
    cache: Path
    """Package caches by layer, apt's state, notes of finished checkouts, logs of failed builds."""
    faults: FaultPoints = NO_FAULTS
    """For chaos tests: told before a layer takes its place."""


def layer_over(recipe: Recipe, system: System, interpreter: Interpreter) -> Digest:
    """The layer of a recipe's dependencies on one ground: over another it is another, so that none is ever replaced under a living box."""
    made_for = {"toolchain": interpreter.version, "prefix": interpreter.box_prefix, "ground": list(system.ground)}
    return digest.of_json({"recipe": recipe.layer_digest, **made_for})


class LocalLayerBuilder:
    """An `ImageBuilder` for local boxes. Any number of builders and processes may share the same places."""

    def __init__(
        self,
        provider: SandboxProvider,
        places: LayerDirectories,
        *,
        blobs: BlobStore,
        toolchains: Toolchains,
        uv: Path,
        variables: Mapping[str, str],
        limits: BuildLimits | None = None,
    ) -> None:
        """`uv` is the program of PyPI's uv, `variables` what `Settings.variables` holds."""
        self._provider = provider
        self._blobs = blobs
        self._places = places
        self._toolchains = toolchains
        self._uv = uv
        self._variables = for_builds(variables, certificates_at=CERTIFICATES)
        self._limits = limits or BuildLimits()
        self._store = LayerStore(places.layers, faults=places.faults)
        # apt runs beside the farm and not in a box: it gets the proxies as they are, credentials included.
        own = {name: value for name, value in variables.items() if name in self._variables.env}
        self._system = LocalSystem(self._store, toolchains, cache=places.cache, variables=own)
        self._logs = places.cache / "logs"
        self._project = ProjectSteps(provider, blobs, memory=places.cache / "checkouts", logs=self._logs, limits=self._limits)
        self._copies = MachineCopies()

    async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
        """See `ImageBuilder.build`."""
        start = time.monotonic()
        interpreter = await self._interpreter(recipe)
        env = environment_variables(recipe, python=interpreter.box_executable)
        system = await self._system.under(recipe, interpreter)
        layer = layer_over(recipe, system, interpreter)
        async with self._store.claim(layer):
            found = self._store.find(layer)
            size = await self._make(layer, recipe, interpreter, system, env) if found is None else found.size_bytes
        hidden: tuple[str, ...] = ()
        facts = BuildFacts(layer_reused=found is not None, layer_s=time.monotonic() - start, layer_bytes=size)
        image = self._image((*system.layers, layer), interpreter)
        if checkout is not None:
            with_uv = self._image((*system.layers, layer, await self._uv_layer()), interpreter)
            own = await self._project.run(recipe, image=with_uv, checkout=checkout, env=env, uv_path=UV_PATH)
            if not system.has_base:
                hidden = await asyncio.to_thread(self._copies.of, await self._blobs.get(checkout.digest), recipe.work_dir)
            checkout = own.blob
            cost = {"checkout_reused": own.reused, "checkout_s": own.seconds, "checkout_bytes": own.blob.size_bytes}
            facts = facts.model_copy(update=cost)
        return Built(Environment(image=image, checkout=checkout, env=env, work_dir=recipe.work_dir, hidden=hidden), facts)

    async def _interpreter(self, recipe: Recipe) -> Interpreter:
        if recipe.toolchain.name != "python":
            raise ImageError(
                f"local layers are for Python; this recipe wants {recipe.toolchain.name} {recipe.toolchain.version}",
                hint="use Docker for it",
            )
        version = recipe.toolchain.version
        await asyncio.to_thread(self._toolchains.place, version)
        found = await asyncio.to_thread(self._toolchains.find, version)
        if found is None:
            raise BuildOutage(f"Python {version} vanished while it was placed")
        return found

    def _image(self, layers: tuple[Digest, ...], interpreter: Interpreter) -> ImageRef:
        """The identity says which machine the layers are made on; where it has a base, that is the lowest of them."""
        toolchains = (interpreter.name,) if interpreter.name else ()
        identity = {"layers": layers, "toolchains": toolchains, "host": self._system.host, "python": interpreter.version}
        return ImageRef(kind="layers", digest=digest.of_json(identity), layers=layers, toolchains=toolchains)

    async def _make(self, layer: Digest, recipe: Recipe, interpreter: Interpreter, system: System, env: dict[str, str]) -> int:
        """Run the dependency steps and publish what they leave. Called by the holder of the layer's claim."""
        log = StepLog(self._logs / f"layer-{layer.removeprefix('sha256:')[:16]}.log")
        log.discard()
        start = time.monotonic()
        image = self._image((*system.layers, await self._uv_layer()), interpreter)
        spec = self._limits.spec(Environment(image=image, env=env, work_dir=recipe.work_dir), Network.OPEN)
        box = await self._provider.create(spec.model_copy(update={"mounts": await asyncio.to_thread(self._mounts, recipe)}))
        try:
            if recipe.files:
                await box.put(files_archive(recipe.files))
            inside = {**env, **BUILD_SETTINGS, **self._variables.env, "UV_CACHE_DIR": f"{CACHE}/uv", "PIP_CACHE_DIR": f"{CACHE}/pip"}
            inside["PATH"] = f"{env['PATH']}:{UV_PATH}"
            timeout_s = self._limits.step_timeout_s
            await run_steps(box, recipe.dependencies, cwd="/opt", env=inside, timeout_s=timeout_s, log=log, network=spec.network)
            await box.quiesce()
            archive = await self._captured(box, interpreter)
        finally:
            await box.close()
        made = {"recipe": recipe.layer_digest, "toolchain": interpreter.version, "seconds": round(time.monotonic() - start, 3)}
        size = await asyncio.to_thread(self._store.publish, layer, unpack(archive), {"kind": "dependencies", **made})
        log.discard()
        return size

    async def _captured(self, box: Box, interpreter: Interpreter) -> bytes:
        """An archive of what is below /opt, but for what was mounted there."""
        not_ours = {interpreter.name or "", UV_PATH.split("/")[2]}
        # As root: it is the box's own user who may still run something after it is quiet.
        listed = await box.exec(ExecRequest(argv=("/bin/ls", "-A", "/opt"), cwd="/", user="root"))
        if not listed.ok:
            raise ImageError(f"/opt of a build box cannot be listed: {listed.text}")
        names = [name for name in listed.stdout.decode(errors="surrogateescape").split("\n") if name and name not in not_ours]
        return await box.get([f"/opt/{name}" for name in sorted(names)]) if names else files_archive({})

    def _mounts(self, recipe: Recipe) -> tuple[Mount, ...]:
        """The package cache, and the host's certificates where its settings name them."""
        folder = self._places.cache / "packages" / recipe.layer_digest.removeprefix("sha256:")[:32]
        folder.mkdir(parents=True, exist_ok=True)
        mounts = [Mount(source=str(folder), target=CACHE, writable=True)]
        if self._variables.certificates is not None:
            public = self._places.cache / "certificates"
            public.mkdir(parents=True, exist_ok=True)
            (public / "ca.pem").write_bytes(self._variables.certificates.read_bytes())
            mounts.append(Mount(source=str(public), target=CERTIFICATES.rpartition("/")[0]))
        return tuple(mounts)

    async def _uv_layer(self) -> Digest:
        """A layer that holds uv alone."""
        about = self._uv.stat()
        known = digest.of_json({"uv": [str(self._uv), about.st_size, about.st_mtime_ns]})
        async with self._store.claim(known):
            if self._store.find(known) is None:
                program = Entry(f"{UV_PATH.strip('/')}/uv", 0o755, content=self._uv.read_bytes())
                await asyncio.to_thread(self._store.publish, known, [(program, int(about.st_mtime))], {"kind": "tool"})
        return known
