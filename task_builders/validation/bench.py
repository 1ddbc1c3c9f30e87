"""What the gates run on: boxes of one provider, the grader, and a bound on how many boxes there are at once. Made by the pipeline."""

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
    """One environment, with the means to run things in fresh boxes of it."""

    provider: SandboxProvider
    environment: Environment
    blobs: BlobStore
    boxes: asyncio.Semaphore
    """Shared by everything that runs at the same time: boxes, not tasks, are what a machine has few of."""
    cores: tuple[int, ...] = ()
    """CPUs of this machine, for runs that are bound to one; empty for an unknown machine (a cluster)."""

    def grader(self, defences: Collection[Defence] = ALL, *, brief: bool = False) -> SandboxGrader:
        """A grader over this bench's provider. Only the attack gate hands in `defences`; a brief one gives rewards and little else."""
        return SandboxGrader(self.provider, defences=defences, brief=brief)

    @asynccontextmanager
    async def agent_box(self, task: Task) -> AsyncIterator[Box]:
        """A fresh box as an agent gets it, the starting tree remembered; it counts against the bound while it is open."""
        spec = SandboxSpec.within(task.limits, self.environment, network=Network.CLOSED)
        async with self.boxes:
            box = await self.provider.create(spec)
            try:
                await box.mark([task.plan.work_dir])
                yield box
            finally:
                await box.close()


Progress = Callable[[str], None]
"""Is told, in a few words for a person, what a gate is doing."""


def silent(_words: str) -> None:
    """For callers that watch nothing."""
