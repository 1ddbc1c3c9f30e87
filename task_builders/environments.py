"""Climbs a profile's ladder of recipes until a project's own suite runs offline: recipe → environment, or the reason why there is none.

Called by the pipeline, once per candidate, with the tree as it is at the fix. It knows no language: the profile proposes, locks, repairs
and names the commands; the builder builds; a box of the provider runs the suite. Every try is kept in the ledger.
"""

import asyncio
import itertools
import math
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from envfarm.core.errors import BoxBroken, ImageError
from envfarm.core.ids import Digest
from envfarm.core.image import BlobRef, BuildFacts, Built, Environment
from envfarm.core.outcome import Finding, TestStatus
from envfarm.core.plan import TestCommand
from envfarm.core.protocols import Box, Clock, ImageBuilder, SandboxProvider
from envfarm.core.recipe import Recipe, Toolchain
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.episodes import cpu_blame
from envfarm.episodes.grading_box import fetch_report
from envfarm.memory_blame import run_witnessed
from task_builders import machine_faults
from task_builders.environment_attempts import Attempt, Budget, NoSetUp, SetUp
from task_builders.environment_memory import EnvironmentMemory, Remembered
from task_builders.languages.profile import Failure, LanguageProfile, Stage
from task_builders.languages.project import Project

ENOUGH = 0.9
"""The share of tests that must pass at the fix: the rest may need a network, a service or a clock that a box has not."""
CLEAN = 0.98
"""Below this share one more recipe is tried, and the better one is taken."""
SLACK = 0.02
"""How much worse than for another commit a remembered environment may do before it is doubted."""
MEMORY = "worked for another commit"
SUITES_SHARE = 0.5
ENDING_S = 15.0
"""For ending a suite in its box and taking its report."""
STAGES: tuple[Stage, ...] = ("lock", "build", "tests")
GOOD = ("passed", "xfailed", "xpassed")
BAD = ("failed", "error")
REASON_CHARACTERS = 2000
UNREAD_REPORT = "the runner left no report that can be read"

ReportReader = Callable[[bytes], Mapping[str, TestStatus]]


@dataclass(frozen=True)
class Workshop:
    """The rooms that a set-up works with."""

    builder: ImageBuilder
    provider: SandboxProvider
    memory: EnvironmentMemory
    clock: Clock
    toolchains: Sequence[Toolchain]
    read_report: ReportReader
    budget: Budget = field(default_factory=Budget)
    keep_attempt: Callable[[Attempt], None] | None = None
    """Is told of every try."""


@dataclass(frozen=True)
class Rung:
    """A recipe to try, and where it came from."""

    recipe: Recipe
    why: str
    of: str
    """The rung that it began with, where it is a repair; itself."""
    enough: float = CLEAN
    """The share of passing tests with which the search ends."""
    lost_files: int = 0
    """Test files that could not be loaded for another commit either."""


async def set_up(project: Project, *, date: datetime, checkout: BlobRef, profile: LanguageProfile, workshop: Workshop) -> SetUp | NoSetUp:
    """Find an environment for the project at this checkout.

    Raises `SandboxError` or `BuildOutage` for what is not its fault, `ImageError` where the time was over before it could be judged.
    """
    climb = _Climb(project, checkout, profile, workshop)
    late = False
    try:
        async with asyncio.timeout(workshop.budget.total_s) as limit:
            climb.ends = limit.when() or climb.ends
            rungs = _rungs(project, date, profile, workshop)
            if not rungs:
                return NoSetUp(reason="no toolchain at hand", detail="the ladder has no rung")
            for rung in rungs:
                await climb.rung(rung)
                if climb.settled or climb.hopeless:
                    break
    except TimeoutError:
        late = True
    if climb.best is None:
        if (late or climb.cut_short) and not climb.suites_took_the_time:
            raise _unjudged(climb, workshop.budget)
        reason = "the time for setting up was over" if late else _table_reason(climb.attempts)
        return NoSetUp(reason=reason, detail=climb.last_reason, attempts=tuple(climb.attempts))
    best = climb.best.model_copy(update={"attempts": tuple(climb.attempts), "facts": tuple(climb.facts)})
    workshop.memory.remember(project.repository, Remembered(recipe=best.recipe, share=best.share, lost_files=best.lost_files))
    return best


def _rungs(project: Project, date: datetime, profile: LanguageProfile, workshop: Workshop) -> list[Rung]:
    ladder = [Rung(r, f"rung {i}", f"rung {i}") for i, r in enumerate(profile.ladder(project, date, workshop.toolchains), 1)]
    remembered = []
    for old in workshop.memory.recall(project.repository):
        adopted = next((a for rung in ladder if (a := profile.adopt(old.recipe, rung.recipe)) is not None), None)
        if adopted is not None:
            remembered.append(Rung(adopted, MEMORY, MEMORY, min(CLEAN, old.share - SLACK), old.lost_files))
    return [*remembered[:1], *ladder]


class _Climb:
    """The state of one project's way up."""

    def __init__(self, project: Project, checkout: BlobRef, profile: LanguageProfile, workshop: Workshop) -> None:
        self._project, self._checkout, self._profile, self._workshop = project, checkout, profile, workshop
        self._tried: set[Digest] = set()
        self._second_looks = 0
        self.attempts: list[Attempt] = []
        self.facts: list[BuildFacts] = []
        self.best: SetUp | None = None
        self.settled = False
        self.ends = math.inf
        """When the whole climb does, by the event loop's clock."""
        self.cut_short = False
        """Whether a rung's time was over before the rung was judged."""
        self.hopeless = False
        """Whether two interpreters gave the very same failures: the environment is not what is wrong."""
        self._seen: dict[frozenset[tuple[str, TestStatus]], Toolchain] = {}

    @property
    def last_reason(self) -> str:
        return self.attempts[-1].reason if self.attempts else ""

    @property
    def suites_took_the_time(self) -> bool:
        """Whether half of it went into suites: of those it is known that no machine starved them, of builds and downloads it is not."""
        return sum(attempt.tests_s for attempt in self.attempts) >= SUITES_SHARE * self._workshop.budget.total_s

    async def rung(self, rung: Rung) -> None:
        """One recipe, and what the rules make of its failures, until the search is settled."""
        current = rung
        for _ in range(self._workshop.budget.repairs_per_rung + 1):
            if current.recipe.digest in self._tried:
                return
            self._tried.add(current.recipe.digest)
            result, failure = await self._try(current)
            self._weigh(result, rung)
            if result is None and failure.statuses:
                first = self._seen.setdefault(frozenset(failure.statuses.items()), current.recipe.toolchain)
                self.hopeless = self.hopeless or first != current.recipe.toolchain
            repair = None if self.settled else self._profile.repair(self._project, current.recipe, failure)
            if repair is None:
                return
            current = Rung(repair.recipe, repair.why, rung.of)

    def _weigh(self, result: SetUp | None, rung: Rung) -> None:
        """Keep the best. A suite with failing tests or lost files gets one more look at another recipe, and not more."""
        if self.best is not None:
            self._second_looks += 1
        if result is not None and (self.best is None or _worth(result) > _worth(self.best)):
            self.best = result
        if self.best is not None:
            clean = self.best.share >= rung.enough and self.best.lost_files <= rung.lost_files
            self.settled = clean or self._second_looks > 0

    async def _try(self, rung: Rung) -> tuple[SetUp | None, Failure]:
        clock, started = self._workshop.clock, self._workshop.clock.monotonic()
        marks = [started]
        built: Built | None = None
        recipe = rung.recipe
        try:
            async with asyncio.timeout(self._workshop.budget.rung_s) as limit:
                recipe = await self._profile.lock(rung.recipe)
                marks.append(clock.monotonic())
                built = await self._workshop.builder.build(recipe, checkout=self._checkout)
                marks.append(clock.monotonic())
                failure = await self._suite(recipe, built.environment, ends=min(self.ends, limit.when() or self.ends))
        except ImageError as e:
            machine_faults.blame(e)
            failure = Failure("lock" if len(marks) == 1 else "build", str(e))
        except TimeoutError:
            self.cut_short = True
            failure = Failure(STAGES[len(marks) - 1], "this rung's time was over")
        except BoxBroken as e:
            # What runs inside broke its own box: that project's way to fail, and no fault of the machine's.
            failure = Failure(STAGES[len(marks) - 1], str(e))
        passed, failed = _count(failure.statuses)
        works = built is not None and passed > 0 and passed >= ENOUGH * (passed + failed)
        marks.append(clock.monotonic())
        self._record(rung, recipe, failure, marks, built.facts if built else None, works=works)
        if works and built is not None:
            lost = _lost_files(failure.statuses)
            found = SetUp(recipe=recipe, environment=built.environment, attempts=(), passed=passed, failed=failed, lost_files=lost)
            return found.model_copy(update={"tests_s": self.attempts[-1].tests_s}), failure
        return None, failure

    def _record(
        self, rung: Rung, recipe: Recipe, failure: Failure, marks: Sequence[float], facts: BuildFacts | None, *, works: bool
    ) -> None:
        spent = [b - a for a, b in itertools.pairwise(marks)]
        stages = dict(zip((f"{stage}_s" for stage in STAGES), spent, strict=False))
        passed, failed = _count(failure.statuses)
        attempt = Attempt(
            repository=self._project.repository,
            recipe=recipe.digest,
            layer=recipe.layer_digest,
            language=recipe.language,
            sandbox=self._workshop.provider.name,
            rung=rung.of,
            why=rung.why,
            result="works" if works else failure.stage,
            seconds=marks[-1] - marks[0],
            layer_bytes=facts.layer_bytes if facts else 0,
            layer_reused=facts.layer_reused if facts else False,
            passed=passed,
            failed=failed,
            reason="" if works else failure.log[-REASON_CHARACTERS:],
            **stages,
        )
        self.attempts.append(attempt)
        self.facts += [facts] if facts else []
        if self._workshop.keep_attempt is not None:
            self._workshop.keep_attempt(attempt)

    async def _suite(self, recipe: Recipe, environment: Environment, *, ends: float) -> Failure:
        """Run the whole suite once, offline. What came of it is called a failure until the tests are counted.

        Raises `BoxLost` where the machine starved it of CPUs or memory, and `TimeoutError` where it had less than its own time: its box
        ends it before the clock of the event loop does, since only then is there evidence of who took the time.
        """
        budget = self._workshop.budget
        spec = SandboxSpec(environment=environment, cpus=budget.cpus, memory_mib=budget.memory_mib, disk_mib=budget.disk_mib)
        box = await self._workshop.provider.create(spec)
        log, statuses = "", dict[str, TestStatus]()
        try:
            for command in self._profile.commands(self._project, recipe, ()):
                path = f"/tmp/envfarm-{secrets.token_hex(8)}"  # noqa: S108 - in a fresh box, under a name drawn now
                left_s = max(1.0, ends - asyncio.get_running_loop().time() - ENDING_S)
                result = await run_witnessed(box, _request(command, path, min(command.timeout_s, left_s)))
                cpu_blame.blame(result, cpus=budget.cpus)
                if result.timed_out and left_s < command.timeout_s:
                    raise TimeoutError
                log += result.text + _ending(result)
                try:
                    statuses.update(await self._report(box, path))
                except ValueError as e:
                    log += f"\n{UNREAD_REPORT}: {e}"
        finally:
            await asyncio.shield(box.close())
        return Failure("tests", log, statuses)

    async def _report(self, box: Box, path: str) -> Mapping[str, TestStatus]:
        """Raises `ValueError` for one that is missing, or cannot be read."""
        findings: list[Finding] = []
        report = await fetch_report(box, path, findings)
        if report is None:
            raise ValueError(findings[0].detail if findings else "there is none")
        return self._workshop.read_report(report)


def _unjudged(climb: _Climb, budget: Budget) -> ImageError:
    return ImageError(
        f"unjudged: no environment was found in time ({budget.rung_s:.0f} s for each try, {budget.total_s:.0f} s for all), "
        f"and less than half of it went into suites. {climb.last_reason}".rstrip(),
        hint="check whether the index or the machine is slow (ENVFARM_PARALLEL), then run the same command again",
    )


def _request(command: TestCommand, report: str, timeout_s: float) -> ExecRequest:
    argv = tuple(a.replace("{report}", report) for a in command.argv if a != "{canaries}")
    return ExecRequest(argv=argv, env={k: v.replace("{report}", report) for k, v in command.env.items()}, timeout_s=timeout_s)


def _ending(result: ExecResult) -> str:
    if result.timed_out:
        return "\nthe test run took longer than its time"
    return f"\nthe test run ended with status {result.exit_code}" + (
        f" at the box's limit of {result.limit_hit}" if result.limit_hit else ""
    )


def _count(statuses: Mapping[str, TestStatus]) -> tuple[int, int]:
    values = list(statuses.values())
    return sum(v in GOOD for v in values), sum(v in BAD for v in values)


def _lost_files(statuses: Mapping[str, TestStatus]) -> int:
    """Entries that stand for a whole file: a test's id names the test within its file."""
    return sum(status == "error" and "::" not in test for test, status in statuses.items())


def _worth(found: SetUp) -> tuple[int, float]:
    return -found.lost_files, found.share


def _table_reason(attempts: Sequence[Attempt]) -> str:
    furthest = max(attempts, key=lambda a: (STAGES.index(a.result) if a.result != "works" else 9, a.passed), default=None)
    if furthest is None:
        return "nothing could be tried"
    if furthest.result == "tests":
        return "too many tests fail in the best environment" if furthest.passed else "no test runs in any environment"
    return {"lock": "no set of packages satisfies the requirements", "build": "no environment could be built"}[furthest.result]
