"""Builds on Ray: a builder on every node, between which candidates are divided. Implements `pipeline.Stages`; opened by the commands.

Screening stays with the driver, which alone writes the journal and the catalogue. Candidates of one repository go where its environments
are, as long as there is room. A builder that dies is nobody's fault: what it had is given to another one, once.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from envfarm.controller.ray_pool import RayPlace, connected
from envfarm.core.candidate import Candidate, Rejection
from envfarm.core.errors import ClusterError, EnvfarmError, boundary
from envfarm.core.protocols import BlobStore
from envfarm.core.question import Question
from envfarm.core.task import Task
from envfarm.core.validation import ValidationReport
from task_builders.candidates.decontamination import Decontamination
from task_builders.environment_attempts import Attempt
from task_builders.intake import Intake
from task_builders.pipeline import FAULTS_OF_ALL, Drafted, Minted, Record, Refused, Stage
from task_builders.ray_builder import Answer, Bundle, Order, RayBuilder
from task_builders.sources import bundle

log = logging.getLogger(__name__)
CPUS = 1
"""What a builder asks Ray for; its boxes are beside that."""
CALLS_AT_ONCE = 1000
GIVEN_TO = 2
"""Builders that one candidate is given to: one that kills them may not kill all."""
BACK_S = 60.0
"""How long Ray may take to start one again."""
ASK_AGAIN_S = 0.5
CLOSE_S = 20.0


@dataclass(eq=False)
class _Builder:
    actor: Any
    room: int
    """Candidates at once: one more than half the boxes, as in a build on one machine. None where the node cannot build."""
    at_work: int = 0
    faults: int = 0
    """In a row, that were no candidate's."""
    died: bool = False
    """Since it was last heard of: Ray may be starting it again."""
    repositories: set[str] = field(default_factory=set)


class RayStages:
    """See `pipeline.Stages`. Inside `on_ray`."""

    def __init__(
        self,
        intake: Intake,
        blobs: BlobStore,
        builders: list[_Builder],
        unable: Sequence[EnvfarmError],
        keep_attempt: Callable[[Attempt], None],
    ) -> None:
        self._intake = intake
        self._blobs = blobs
        self._builders = builders
        self.unable = unable
        """Why other nodes cannot build."""
        self._keep_attempt = keep_attempt
        self._bundles: dict[str, Bundle] = {}
        self._bundling = asyncio.Lock()

    @property
    def parallel(self) -> int:
        """How many candidates it is good for at once."""
        return sum(builder.room for builder in self._builders)

    @property
    def nodes(self) -> int:
        """How many builders there are."""
        return len(self._builders)

    def screen(self, record: Record) -> Drafted | Rejection:
        """See `pipeline.Stages`."""
        return self._intake.screen(record)

    async def mint(self, record: Record, candidate: Drafted, stage: Stage) -> Minted | Refused:
        """See `pipeline.Stages`. Raises `ClusterError` where no builder is left, or two died at this candidate."""
        repository = await self._bundle(candidate.repository) if isinstance(candidate, Candidate) else None
        where = record.name
        answer = await self._asked(
            where, lambda actor: actor.mint.options(num_returns="streaming").remote(record, candidate, repository), stage
        )
        if answer.checkout is not None:
            await self._blobs.put(answer.checkout)
        match answer.result:
            case Minted() as minted if isinstance(record, Question) and (repeated := await self._intake.repeated(record, minted.task)):
                return Refused(rejection=repeated, reached="set up", cost=minted.report.cost)
            case Minted() | Refused() as result:
                return result
        raise ClusterError("a builder answered with no result")

    async def check(self, task: Task, stage: Stage) -> ValidationReport:
        """See `pipeline.Stages`. Raises as `mint`."""
        checkout = await self._blobs.get(task.checkout) if task.checkout else None
        answer = await self._asked(task.name, lambda actor: actor.check.options(num_returns="streaming").remote(task, checkout), stage)
        if isinstance(answer.result, ValidationReport):
            return answer.result
        raise ClusterError("a builder answered with no report")

    async def _asked(self, where: str, call: Callable[[Any], Any], stage: Stage) -> Answer:
        given = 0
        while True:
            builder = self._chosen(where)
            builder.at_work += 1
            builder.repositories.add(where)
            try:
                if builder.died and not await _is_back(builder):
                    self._forget(builder)
                    continue
                given += 1
                answer = await _last(call(builder.actor), stage)
            except RayActorError as e:
                log.warning("a builder died at %s: %s", where, type(e).__name__)
                builder.died = True
                builder.repositories.clear()
                if isinstance(e, ActorDiedError):
                    self._forget(builder)
                if given == GIVEN_TO:
                    raise ClusterError(
                        f"{GIVEN_TO} builders died at this record", hint="look at the nodes' memory; run again to go on"
                    ) from e
            except RayError as e:
                raise ClusterError(f"Ray failed: {e}", hint="run again to go on") from e
            else:
                for attempt in answer.attempts:
                    await asyncio.to_thread(self._keep_attempt, attempt)
                builder.faults = builder.faults + 1 if isinstance(answer.error, FAULTS_OF_ALL) else 0
                if answer.error is not None:
                    raise answer.error
                return answer
            finally:
                builder.at_work -= 1

    def _forget(self, builder: _Builder) -> None:
        """One that is gone for good: Ray starts the others again wherever it can."""
        if builder in self._builders:
            self._builders.remove(builder)

    def _chosen(self, where: str) -> _Builder:
        """The one with the most room: of those that know the repository, or else of all. Raises `ClusterError` if none is left.

        One that died or failed last is asked where no other one has room: it may be its node's fault.
        """
        if not self._builders:
            raise ClusterError("no builder is left: their nodes are gone", hint="look at `ray status`; run again to go on")
        return max(
            self._builders,
            key=lambda each: (
                each.at_work < each.room,
                not each.died,
                -each.faults,
                where in each.repositories,
                each.room - each.at_work,
            ),
        )

    async def _bundle(self, address: str) -> Bundle:
        """Made once for each repository and build; builders fetch it from one another by Ray."""
        async with self._bundling:
            if address not in self._bundles:
                repository = await self._intake.repository(address)
                of = await asyncio.to_thread(bundle.state_of, repository, address)
                content = await asyncio.to_thread(bundle.bundle, repository)
                with boundary(ClusterError, "giving a repository to Ray"):
                    self._bundles[address] = Bundle(of=of, content=(await asyncio.to_thread(ray.put, content),))
            return self._bundles[address]


async def _last(stream: Any, stage: Stage) -> Answer:
    """Tells stages as they come. Raises `RayError`."""
    async for reference in stream:
        said = await reference
        if isinstance(said, Answer):
            return said
        stage(said)
    raise ClusterError("a builder ended without an answer")


@asynccontextmanager
async def on_ray(
    intake: Intake, blobs: BlobStore, place: RayPlace, order: Order, keep_attempt: Callable[[Attempt], None]
) -> AsyncIterator[RayStages]:
    """A builder on every node of a cluster that has CPUs and can build, until the block ends.

    Raises `ClusterError`, and what a node lacks if all lack something.
    """
    async with connected(place):
        with boundary(ClusterError, "starting builders on Ray"):
            builders = await asyncio.to_thread(_started, order, intake.decontamination)
        try:
            unable = await _opened(builders)
            able = [builder for builder in builders if builder.room]
            if not able:
                raise unable[0]
            yield RayStages(intake, blobs, able, unable, keep_attempt)
        finally:
            await asyncio.gather(*(_closed(builder) for builder in builders))


def _started(order: Order, decontamination: Decontamination) -> list[_Builder]:
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["NodeID"] for node in known if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise ClusterError("no node of this Ray has CPUs", hint="look at `ray status`")
    options: dict[str, Any] = {"num_cpus": CPUS, "max_restarts": -1, "max_concurrency": CALLS_AT_ONCE}
    actors = ray.remote(**options)(RayBuilder)
    return [
        _Builder(
            actors.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(order, decontamination),
            room=0,
        )
        for node in nodes
    ]


async def _opened(builders: Sequence[_Builder]) -> Sequence[EnvfarmError]:
    """Give room to those whose nodes can build. Why the others cannot."""
    with boundary(ClusterError, "opening builders on Ray"):
        lacking = await asyncio.gather(*map(_opened_one, builders))
    return [error for error in lacking if error is not None]


async def _opened_one(builder: _Builder) -> EnvfarmError | None:
    """Asked once more where its process dies: Ray starts it again."""
    for left in reversed(range(GIVEN_TO)):
        try:
            boxes: int = await builder.actor.boxes.remote()
            answer: Answer = await builder.actor.ready.remote()
        except RayActorError as e:
            log.warning("a builder died as it began: %s", type(e).__name__)
            try:
                if not left or not await _is_back(builder):
                    break
            except ClusterError as late:
                return late
        else:
            builder.room = 0 if answer.error is not None else boxes // 2 + 1
            return answer.error
    return ClusterError("on a node of Ray's: the builder died as it began", hint="look at the nodes' memory")


async def _is_back(builder: _Builder) -> bool:
    """Waits until Ray has started it again; false where Ray never will. Raises `ClusterError` where it takes too long."""
    try:
        async with asyncio.timeout(BACK_S):
            while True:
                with suppress(ActorUnavailableError):
                    await builder.actor.boxes.remote()
                    builder.died = False
                    return True
                await asyncio.sleep(ASK_AGAIN_S)
    except ActorDiedError:
        return False
    except TimeoutError as e:
        raise ClusterError(f"Ray has not started a dead builder again within {BACK_S:.0f} s", hint="run again to go on") from e


async def _closed(builder: _Builder) -> None:
    """Its boxes are removed; what a builder leaves that does not answer, the next one on its node removes."""
    try:
        async with asyncio.timeout(CLOSE_S):
            await builder.actor.close.remote()
    except (RayError, TimeoutError) as e:
        log.warning("a builder was not closed: %s: %s", type(e).__name__, e)
    with suppress(RayError):
        await asyncio.to_thread(ray.kill, builder.actor)
