"""A builder as an actor on Ray: sets up, measures and checks candidates on its node, in boxes of its own. Started by `ray_stages`.

It has the home of its node (`ENVFARM_HOME` there), where its environments stay for the next candidate of the same repository. What its
driver is to have comes and goes by Ray, and nothing by a file system that both would have to see.
"""

import asyncio
import platform
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from envfarm.core.errors import BuildOutage, EnvfarmError, SandboxError, SourceError, StoreError, TaskError, UsageError, boundary
from envfarm.core.frozen import Frozen
from envfarm.core.task import Task
from envfarm.core.validation import ValidationReport
from envfarm.settings import read
from envfarm.wiring import Farm
from task_builders import workbench
from task_builders.candidates.decontamination import Decontamination
from task_builders.environment_attempts import Attempt
from task_builders.minting import Rules
from task_builders.pipeline import Drafted, Minted, Record, Refused, Stage
from task_builders.sources import bundle
from task_builders.sources.bundle import Brought
from task_builders.stages import MintingStages

KINDS = (UsageError, SandboxError, StoreError, BuildOutage, SourceError, TaskError)
"""Of errors: the nearest is what the driver raises again."""


class Order(Frozen):
    """What a driver asks of all its builders."""

    sandbox: str
    rules: Rules
    boxes: int | None = None
    """At once, by each builder; None for what its node's own settings say, by default its CPUs."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A repository on its way."""

    of: Brought
    content: tuple[Any]
    """A reference to `bytes` in Ray's object store. In a tuple, or else Ray would fetch it for every call."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended: with a result, or with an error that is not the candidate's."""

    result: Minted | Refused | ValidationReport | None = None
    error: EnvfarmError | None = None
    checkout: bytes | None = None
    """The blob of a minted task's checkout."""
    attempts: tuple[Attempt, ...] = ()
    """Tries of recipes since the last answer, for the driver's ledger."""


Told = AsyncIterator[str | Answer]
"""Stages, in words for a person; then the answer, which is the last."""
Work = Callable[[MintingStages, Stage], Awaitable[Answer]]


class RayBuilder:
    """The actor's class; `ray_stages` gives it to Ray with its options."""

    def __init__(self, order: Order, decontamination: Decontamination) -> None:
        self._order = order
        self._decontamination = decontamination
        self._settings = read()
        self._boxes = order.boxes or self._settings.parallel
        self._changing = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._farm: Farm | None = None
        self._stages: MintingStages | None = None
        self._attempts: list[Attempt] = []
        self._working: set[asyncio.Task[Answer]] = set()

    async def boxes(self) -> int:
        """How many it has at once."""
        return self._boxes

    async def ready(self) -> Answer:
        """With the error, where its node cannot build."""

        async def nothing(_: MintingStages, __: Stage) -> Answer:
            return Answer()

        return await self._answer(nothing, lambda _: None)

    async def mint(self, record: Record, candidate: Drafted, repository: Bundle | None) -> Told:
        """See `pipeline.Stages`. With the candidate's repository, if it has one."""

        async def work(stages: MintingStages, stage: Stage) -> Answer:
            if repository is not None:
                await self._bring(repository, stages, stage)
            result = await stages.mint(record, candidate, stage)
            if isinstance(result, Refused) or result.task.checkout is None:
                return Answer(result=result)
            return Answer(result=result, checkout=await stages.tools.blobs.get(result.task.checkout))

        async for said in self._told(work):
            yield said

    async def check(self, task: Task, checkout: bytes | None) -> Told:
        """See `pipeline.Stages`. With the blob of the task's checkout, if it has one."""

        async def work(stages: MintingStages, stage: Stage) -> Answer:
            if checkout is not None:
                await stages.tools.blobs.put(checkout)
            return Answer(result=await stages.check(task, stage))

        async for said in self._told(work):
            yield said

    async def close(self) -> None:
        """Stop all work and remove the boxes. Nothing is asked of it afterwards."""
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        await self._opened.aclose()

    async def _told(self, work: Work) -> Told:
        words: asyncio.Queue[str | None] = asyncio.Queue()
        task = asyncio.create_task(self._answer(work, words.put_nowait))
        task.add_done_callback(lambda _: words.put_nowait(None))
        self._working.add(task)
        try:
            while (said := await words.get()) is not None:
                yield said
            yield task.result()
        finally:
            task.cancel()
            self._working.discard(task)

    async def _answer(self, work: Work, stage: Stage) -> Answer:
        try:
            with boundary(TaskError, "building"):
                answer = await work(await self._ready(), stage)
        except EnvfarmError as e:
            kind = next((kind for kind in KINDS if isinstance(e, kind)), EnvfarmError)
            answer = Answer(error=kind(f"on {platform.node()}: {e}", hint=e.hint))
        attempts, self._attempts[:] = tuple(self._attempts), []
        return replace(answer, attempts=attempts)

    async def _ready(self) -> MintingStages:
        """The stages of this node, opened by the first call that comes so far. Raises what the node lacks."""
        async with self._changing:
            if self._stages is None:
                if self._farm is None:
                    self._farm = await self._opened.enter_async_context(Farm(self._settings))
                self._stages = await workbench.stages(
                    self._farm,
                    self._order.sandbox,
                    boxes=self._boxes,
                    rules=self._order.rules,
                    decontamination=self._decontamination,
                    keep_attempt=self._attempts.append,
                )
            return self._stages

    async def _bring(self, repository: Bundle, stages: MintingStages, stage: Stage) -> None:
        mirrors = stages.intake.mirrors
        async with self._changing:
            found = await asyncio.to_thread(bundle.find, repository.of, mirrors)
            if found is None:
                stage("repository")
                content = await repository.content[0]
                found = await asyncio.to_thread(bundle.unpack, repository.of, content, mirrors)
            stages.intake.has_repository(repository.of.address, found)
