"""What the gates run on: a provider's boxes, the grader, and a limit on simultaneous boxes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from envfarm.core.image import Environment
from envfarm.core.protocols import BlobStore, Box, SandboxProvider
from envfarm.core.sandbox import Network, SandboxSpec
from envfarm.core.task import Task
from envfarm.episodes.grader import SandboxGrader
from envfarm.grading.integrity import ALL, Defence


@dataclass(frozen=True)
class Bench:
    """One environment and the means to run commands in fresh boxes of it."""

    provider: SandboxProvider
    environment: Environment
    blobs: BlobStore
    boxes: asyncio.Semaphore
    """Shared by everything that runs at the same time: boxes, not tasks, are the scarce resource of a machine."""
    cores: tuple[int, ...] = ()
    """CPUs of this machine, for runs pinned to one. Empty if the machine is unknown (a cluster)."""

    def grader(self, defences: Collection[Defence] = ALL, *, brief: bool = False) -> SandboxGrader:
        """A grader over this bench's provider. Only gates pass `defences`. `brief`: return the reward and little else."""
        return SandboxGrader(self.provider, defences=defences, brief=brief)

    @asynccontextmanager
    async def agent_box(self, task: Task) -> AsyncIterator[Box]:
        """A fresh box as an agent gets it, its starting tree marked. While open, it counts against the limit."""
        spec = SandboxSpec.within(task.limits, self.environment, network=Network.CLOSED)
        async with self.boxes:
            box = await self.provider.create(spec)
            try:
                await box.mark([task.plan.work_dir])
                yield box
            finally:
                await box.close()


Progress = Callable[[str], None]
"""Called with a short text for people about what a gate is doing."""


def silent(_words: str) -> None:
    """A `Progress` that discards everything."""
