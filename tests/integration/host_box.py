"""A box of this machine's own programs, for programs of questions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from envfarm.core import digest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.protocols import Box
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing.blobs import MemoryBlobs
from task_builders.questions import box_runs


@asynccontextmanager
async def host_box(home: Path, boxd: Path) -> AsyncIterator[Box]:
    """It and its provider are closed at the end of the block."""
    provider = LocalProvider(home, boxd, MemoryBlobs())
    image = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
    spec = SandboxSpec(environment=Environment(image=image, work_dir=box_runs.RUNS_DIRECTORY), memory_mib=256, disk_mib=64, pids=64)
    opened = await provider.create(spec)
    yield opened
    await opened.close()
    await provider.aclose()
