"""The commit's own checkout: a recipe's project steps, run in a box over the shared layer without the network. Used by both builders.

The result is remembered by everything that went into it. It must not be able to reach the network, nor see anything of the host.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from envfarm.core import digest
from envfarm.core.errors import StoreError
from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.protocols import ARCHIVE_BYTES, BlobStore, SandboxProvider
from envfarm.core.recipe import Recipe
from envfarm.core.sandbox import Network, SandboxSpec
from envfarm.images.build_steps import StepLog, own_checkout, run_steps
from envfarm.images.dockerfile import BUILD_SETTINGS


class BuildLimits(NamedTuple):
    """What the box of a build may use."""

    step_timeout_s: float = 1800.0
    memory_mib: int = 4096
    disk_mib: int = 20480
    cpus: float = 2.0
    pids: int = 2048

    def spec(self, environment: Environment, network: Network) -> SandboxSpec:
        """A box of these limits."""
        return SandboxSpec(
            environment=environment,
            network=network,
            cpus=self.cpus,
            memory_mib=self.memory_mib,
            disk_mib=self.disk_mib,
            pids=self.pids,
        )


class OwnCheckout(NamedTuple):
    """A commit's own checkout, and what it cost."""

    blob: BlobRef
    reused: bool
    seconds: float


class ProjectSteps:
    """Runs project steps with one provider, and remembers results in a folder of small files."""

    def __init__(self, provider: SandboxProvider, blobs: BlobStore, *, memory: Path, logs: Path, limits: BuildLimits) -> None:
        self._provider = provider
        self._blobs = blobs
        self._memory = memory
        self._logs = logs
        self._limits = limits

    async def run(self, recipe: Recipe, *, image: ImageRef, checkout: BlobRef, env: Mapping[str, str], uv_path: str) -> OwnCheckout:
        """The checkout with what the steps made. `image` holds the layer and uv, in the directory `uv_path`.

        Raises `ImageError` when a step fails or deletes something of the layer, and what boxes and blob stores raise.
        """
        start = time.monotonic()
        if not recipe.project:
            return OwnCheckout(checkout, reused=True, seconds=0.0)
        steps = [step.run for step in recipe.project]
        key = digest.of_json({"image": image.digest, "checkout": checkout.digest, "steps": steps, "env": dict(env), "dir": recipe.work_dir})
        note = self._memory / f"{key.removeprefix('sha256:')}.json"
        known = await self._known(note)
        if known is not None:
            return OwnCheckout(known, reused=True, seconds=time.monotonic() - start)
        blob = await self._blobs.put(await self._run(recipe, image, checkout, env=env, uv_path=uv_path, name=note.stem[:16]))
        _remember(note, blob)
        return OwnCheckout(blob, reused=False, seconds=time.monotonic() - start)

    async def _run(self, recipe: Recipe, image: ImageRef, checkout: BlobRef, *, env: Mapping[str, str], uv_path: str, name: str) -> bytes:
        environment = Environment(image=image, checkout=checkout, env=dict(env), work_dir=recipe.work_dir)
        log = StepLog(self._logs / f"project-{name}.log")
        log.discard()
        spec = self._limits.spec(environment, Network.CLOSED)
        box = await self._provider.create(spec)
        try:
            # What is mounted is not the checkout's, whatever its times say: interpreters share inodes with the machine's own.
            await box.mark((recipe.work_dir, "/opt"), exclude=[f"/opt/{name}" for name in image.toolchains])
            inside = {**env, **BUILD_SETTINGS, "UV_OFFLINE": "1", "UV_CACHE_DIR": "/tmp/uv-cache", "PATH": f"{env['PATH']}:{uv_path}"}  # noqa: S108
            timeout_s = self._limits.step_timeout_s
            await run_steps(box, recipe.project, cwd=recipe.work_dir, env=inside, timeout_s=timeout_s, log=log, network=spec.network)
            await box.quiesce()
            change = await box.diff(max_bytes=ARCHIVE_BYTES)
        finally:
            await box.close()
        archive = own_checkout(await self._blobs.get(checkout.digest), change, work_dir=recipe.work_dir)
        log.discard()
        return archive

    async def _known(self, note: Path) -> BlobRef | None:
        ref = _recall(note)
        if ref is not None:
            try:
                await self._blobs.get(ref.digest)
            except StoreError:
                return None
        return ref


def _recall(note: Path) -> BlobRef | None:
    try:
        return BlobRef.model_validate_json(note.read_bytes())
    except (OSError, ValueError):
        return None


def _remember(note: Path, blob: BlobRef) -> None:
    """In place, so that a killed process leaves no other file: half a note is read as none, and written again."""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(blob.model_dump(mode="json")))
