"""The grader: makes fresh boxes, applies the agent's change, runs the sealed tests, returns a verdict.

All decisions are made in `envfarm.grading` and carried out here. Beyond the reports, nothing that a box says of itself is believed.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple, TypeVar

from envfarm.core.change import Change
from envfarm.core.errors import BoxBroken, BoxLost, Cause, EnvfarmError, GraderError, SandboxError, boundary
from envfarm.core.frozen import Frozen
from envfarm.core.image import Environment
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.outcome import Finding, Invalid, Outcome, Scored, TestStatus
from envfarm.core.plan import Canary, PlanError
from envfarm.core.protocols import Box, SandboxProvider
from envfarm.core.sandbox import NOBODY, ExecRequest, Holder, Network, SandboxSpec
from envfarm.core.task import Task
from envfarm.core.usage import Bill
from envfarm.episodes import grading_box
from envfarm.episodes.box_meter import BoxMeter
from envfarm.grading import guesses, procedure
from envfarm.grading.filtering import too_unwieldy
from envfarm.grading.integrity import ALL, BAD, Defence
from envfarm.grading.procedure import TOKEN, CommandOutcome, Preparation


class Variation(Frozen):
    """Deliberate differences between two runs of a suite, used to find unstable tests."""

    env: dict[str, str] = {}
    """Variables on top of the plan's: `PYTHONHASHSEED`, `TZ`, `LANG`, …"""
    order_seed: int | None = None
    """Seed of a random order of the test files; None: the planned order."""
    cores: tuple[int, ...] = ()
    """CPUs that commands may use; empty: all of the box's."""


PLAIN = Variation()
K = TypeVar("K")
V = TypeVar("V")
SPLITS = 3
"""How often a task's canaries are halved if one box cannot run them all at once (a grading runs only a few)."""


class PlanRun(Frozen):
    """The results of the suite in one box, without a verdict."""

    statuses: dict[str, TestStatus]
    exit_codes: tuple[int | None, ...]
    seconds: float
    log_tail: str
    timed_out: bool = False
    """Whether a command was killed at its time limit."""
    notes: tuple[str, ...] = ()
    """Time and box limits that were hit, and reports that could not be read."""


class _Ran(NamedTuple):
    """The results of a preparation's commands in one box."""

    results: list[CommandOutcome]
    findings: list[Finding]
    open: bool = False
    """Whether only the blind phase ran and a reward is still possible."""


class SandboxGrader:
    """Grades in boxes from a provider."""

    def __init__(
        self,
        provider: SandboxProvider,
        *,
        defences: Collection[Defence] = ALL,
        brief: bool = False,
        draw_token: Callable[[], str] = secrets.token_hex,
        observer: Observer = UNOBSERVED,
    ) -> None:
        """`draw_token` gives a fresh secret for each grading. Only gates and tests pass `defences`.

        A brief grader gives the same rewards, but skips the tests if the canaries already make the reward 0. It is for callers that
        need the reward only.
        """
        self._provider = provider
        self._defences = frozenset(defences)
        self._brief = brief
        self._draw_token = draw_token
        self._observer = observer

    async def grade(
        self, task: Task, change: Change, *, environment: Environment, holder: Holder = NOBODY, bill: Bill | None = None
    ) -> Outcome:
        """Grade in fresh boxes (modes `isolated` and `replayed`). Never raises because of what the agent did."""
        try:
            return await self._grade(task, change, partial(self._fresh_box, task, environment, holder, bill), environment)
        except EnvfarmError as e:
            return invalid(e)

    async def _grade(
        self, task: Task, change: Change, fresh_box: Callable[[], AbstractAsyncContextManager[Box]], environment: Environment
    ) -> Outcome:
        """Run blind rounds, each in a fresh box; then the tests, in the last round's box or as soon as a round rules out a reward.

        The tests come last, so that no later round exists to which code could carry what it learned of them, through any channel that
        boxes share.
        """
        if unwieldy := await asyncio.to_thread(too_unwieldy, change):
            return procedure.judge(await self._prepare(task, Change()), (), [unwieldy])
        asked: set[str] = set()
        rounds: list[tuple[Preparation, _Ran]] = []
        preparation = await self._prepare(task, change)
        while True:
            asked |= procedure.templates_asked(preparation)
            async with fresh_box() as box:
                refused = await grading_box.apply(box, preparation.kept)
                if refused is not None:
                    return procedure.judge(preparation, (), [refused])
                more = len(rounds) + 1 < guesses.blind_rounds(task.plan)
                ran = await self._run(box, preparation, task, environment, blind_alone=more)
            if not ran.open:
                break
            rounds.append((preparation, ran))
            with _trusting(task):
                preparation = procedure.drawn_anew(preparation, task.tests, token=self._draw_token(), asked=asked)
        with boundary(GraderError, "judging"):
            return await asyncio.to_thread(self._judged, preparation, ran, rounds)

    def _judged(self, preparation: Preparation, ran: _Ran, rounds: Sequence[tuple[Preparation, _Ran]]) -> Scored:
        scored = procedure.judge(preparation, ran.results, ran.findings)
        return self._doubted(scored, rounds) if scored.reward > 0 else scored

    def _doubted(self, scored: Scored, rounds: Sequence[tuple[Preparation, _Ran]]) -> Scored:
        """The verdict, combined with earlier blind rounds: a guess is bounded only by all rounds together."""
        for preparation, ran in rounds:
            blind = procedure.blind_part(preparation)
            doubts = procedure.judge_blind(blind, ran.results, scored.report.statuses, ran.findings) if blind else ()
            if doubts:
                return procedure.after_blind_rounds(scored, doubts, len(rounds))
        return procedure.after_blind_rounds(scored, (), len(rounds)) if rounds else scored

    async def grade_in_place(self, task: Task, box: Box, change: Change, *, environment: Environment) -> Outcome:
        """Grade in the agent's own box (mode `shared`), after killing its processes. The caller closes the box.

        Added files that influence tests are removed. Changed ones cannot be restored; the outcome records the mode for this reason.
        """
        try:
            if unwieldy := await asyncio.to_thread(too_unwieldy, change):
                return procedure.judge(await self._prepare(task, Change()), (), [unwieldy])
            preparation = await self._prepare(task, change)
        except EnvfarmError as e:
            return invalid(e)
        findings: list[Finding] = []
        try:
            if Defence.QUIESCE in self._defences:
                findings.append(await grading_box.quiesce(box, "nothing of the agent's runs"))
            if Defence.DROP_INFLUENCING in self._defences:
                gone = {f.path for f in change.files if not f.is_dir}
                await grading_box.restore(box, Change(deleted=tuple(path for path in preparation.dropped if path in gone)))
            return await self._run_and_judge(box, preparation, task, environment, findings)
        except BoxLost as e:
            return invalid(e)
        except (BoxBroken, SandboxError) as e:
            return procedure.judge(preparation, (), [Finding("box answers", ok=False, detail=f"the agent broke the box: {e}")])
        except EnvfarmError as e:
            return invalid(e)

    async def run_plan(
        self, task: Task, change: Change, *, environment: Environment, with_tests: bool = True, variation: Variation = PLAIN
    ) -> PlanRun:
        """Run the suite and return each test's status. Raises what the box raises.

        Without `with_tests`, the tree's own versions of the test files are run, as far as they exist.
        """
        defences = self._defences - {Defence.CANARIES, Defence.BLIND_CANARIES}
        if not with_tests:
            defences -= {Defence.RESTORE_TESTS}
        preparation = await self._prepare(task, change, defences)
        async with self._fresh_box(task, environment) as box:
            await grading_box.restore(box, preparation.kept)
            missing = () if with_tests else await grading_box.missing_files(box, task.plan)
            preparation = replace(preparation, phases=tuple(_varied(p, variation, missing) for p in preparation.phases))
            ran = await self._run(box, preparation, task, environment, variation.cores)
        scored = procedure.judge(preparation, ran.results, ran.findings)
        notes = [f"{f.check}: {f.detail}" for f in scored.integrity.findings if not f.ok]
        report = scored.report
        return PlanRun(
            statuses=report.statuses,
            exit_codes=report.exit_codes,
            seconds=report.duration_s,
            log_tail=report.log_tail,
            timed_out=any(result.timed_out for result in ran.results),
            notes=tuple(notes),
        )

    async def check_canaries(self, task: Task, change: Change, *, environment: Environment) -> dict[Canary, bool]:
        """Run every canary once blind and once beside the tests. Returns which had the status expected at the fix.

        All run in one box, or in several if they are too many for one. Alternatives for one destination get separate file names. Raises
        what the box raises.
        """

        async def once(part: Task) -> tuple[dict[Canary, bool], bool]:
            templates = sorted({c.template for c in part.plan.canaries})
            apart = tuple(_under_its_own_name(c, templates) for c in part.plan.canaries)
            one = part.model_copy(update={"plan": replace(part.plan, canaries=apart)})
            preparation = await self._prepare(one, change)
            results, whole = await self._in_fresh_box(one, preparation, environment)
            return dict(zip(part.plan.canaries, _honest(preparation, results), strict=True)), whole

        return await _in_parts(task, once)

    async def wrong_in_blind_rounds(self, task: Task, change: Change, *, environment: Environment) -> set[Canary]:
        """Run the blind rounds of one grading, and then what they asked beside unaltered copies alone, or not at all, without such copies.

        Returns the canaries that did not have the status expected at the fix. Raises what the box raises.
        """
        unaltered = {canary.template for canary in task.plan.canaries if canary.unaltered}
        left = {canary.template for canary in task.plan.canaries} - unaltered
        asked: set[str] = set()
        wrong: set[Canary] = set()
        preparation = await self._prepare(task, change)
        rounds = guesses.blind_rounds(task.plan)
        while (rounds > 0 or left) and (blind := procedure.blind_part(preparation)) is not None:
            results, _ = await self._in_fresh_box(task, blind, environment)
            drawn = procedure.templates_asked(blind)
            wrong |= {c for c, fits in zip(task.plan.canaries, _honest(blind, results), strict=True) if c.template in drawn and not fits}
            left -= set() if drawn & unaltered else drawn
            asked |= drawn
            rounds -= 1
            known = asked if rounds > 0 else unaltered | (asked - left)
            preparation = procedure.drawn_anew(preparation, task.tests, token=self._draw_token(), asked=known)
        return wrong

    async def try_copies(self, task: Task, change: Change, *, environment: Environment) -> dict[str, TestStatus]:
        """Run the plan's canary files once, alone. Returns each test's status, in the report's order, for those who make canaries.

        Ids have the placeholder instead of the drawn name. Raises what the box raises.
        """

        async def once(part: Task) -> tuple[dict[str, TestStatus], bool]:
            preparation = procedure.blind_part(await self._prepare(part, change))
            if preparation is None:
                return {}, True
            results, whole = await self._in_fresh_box(part, preparation, environment)
            return procedure.with_placeholders(preparation, results), whole

        return await _in_parts(task, once)

    async def _in_fresh_box(self, task: Task, preparation: Preparation, environment: Environment) -> tuple[Sequence[CommandOutcome], bool]:
        """The results of the preparation's commands, and whether all of them exited by themselves."""
        async with self._fresh_box(task, environment) as box:
            await grading_box.restore(box, preparation.kept)
            ran = await self._run(box, preparation, task, environment)
        planned = sum(len(phase.commands) for phase in preparation.phases)
        return ran.results, [r.exit_code is not None for r in ran.results] == [True] * planned

    async def _prepare(self, task: Task, change: Change, defences: Collection[Defence] | None = None) -> Preparation:
        """Prepare in a thread: an agent's change may have 100,000 files."""
        used = self._defences if defences is None else defences
        with _trusting(task):
            return await asyncio.to_thread(procedure.prepare, task.plan, task.tests, change, token=self._draw_token(), defences=used)

    @asynccontextmanager
    async def _fresh_box(
        self, task: Task, environment: Environment, holder: Holder = NOBODY, bill: Bill | None = None
    ) -> AsyncIterator[Box]:
        network = Network.CLOSED if Defence.OFFLINE in self._defences else Network.OPEN
        spec = SandboxSpec.within(task.limits, environment, holder=holder, network=network)
        meter = BoxMeter(spec, "grading", bill or Bill(), self._observer)
        with boundary(GraderError, "making a box to grade in"):
            box = await meter.create(self._provider)
        try:
            yield box
        finally:
            await meter.close(box)

    async def _run_and_judge(
        self, box: Box, preparation: Preparation, task: Task, environment: Environment, found: Sequence[Finding] = ()
    ) -> Outcome:
        ran = await self._run(box, preparation, task, environment)
        with boundary(GraderError, "judging"):
            return await asyncio.to_thread(procedure.judge, preparation, ran.results, [*found, *ran.findings])

    async def _run(
        self,
        box: Box,
        preparation: Preparation,
        task: Task,
        environment: Environment,
        cores: tuple[int, ...] = (),
        *,
        blind_alone: bool = False,
    ) -> _Ran:
        """Run the phases; with `blind_alone`, the tests only if the blind phase rules out a reward.

        From the first command on, a broken box is blamed on the code under test. After it, so is a box that refuses a request, for
        example because directories were closed. Only a lost box is an infrastructure failure.
        """
        results: list[CommandOutcome] = []
        findings: list[Finding] = []
        left_s = task.limits.verifier_s
        blamed: tuple[type[EnvfarmError], ...] = ()
        for phase in preparation.phases:
            for n, command in enumerate(phase.commands):
                request = _request(command, preparation, environment, min(command.timeout_s, left_s), cores)
                try:
                    if n == 0 and (refused := await self._put_in_place(box, phase, preparation)):
                        return _Ran(results, [*findings, refused])
                    blamed = blamed or (BoxBroken,)
                    result = await grading_box.run(box, request)
                    blamed = (BoxBroken, SandboxError)
                    outcome, seen = await grading_box.collect(box, result, command.report_path, preparation.defences, cpus=task.limits.cpus)
                except BoxLost:
                    raise
                except blamed as e:
                    findings.append(Finding("box answers", ok=False, detail=f"the code under test broke its box: {e}"))
                    return _Ran(results, findings)
                results.append(await asyncio.to_thread(procedure.read, preparation, phase, command, outcome))
                findings += seen
                left_s -= outcome.duration_s
                if outcome.timed_out or left_s <= 0:
                    return _Ran(results, findings)
            if phase is preparation.phases[-1] or not (self._brief or blind_alone):
                continue
            refuted = await asyncio.to_thread(procedure.rules_out_reward, preparation, phase, results)
            if refuted and self._brief:
                return _Ran(results, [refuted, *findings])
            if blind_alone and not refuted:
                return _Ran(results, findings, open=True)
        return _Ran(results, findings)

    async def _put_in_place(self, box: Box, phase: procedure.Phase, preparation: Preparation) -> Finding | None:
        """Put the phase's sealed files in place. Before the first phase a refusal is blamed on the agent's change."""
        if phase is not preparation.phases[0]:
            return await grading_box.apply(box, phase.sealed, "sealed tests can be put in place")
        await box.resume()
        return await grading_box.apply(box, grading_box.with_scratch(phase.sealed, preparation.scratch), "sealed tests can be put in place")


def invalid(error: EnvfarmError) -> Invalid:
    """The outcome of a failure before or around the agent's code. A box that broke before that code ran is an infrastructure failure."""
    policy = error.policy
    if isinstance(error, BoxBroken):
        return Invalid(Cause.SANDBOX.value, retryable=True, detail=f"a fresh box broke: {error}")
    return Invalid(policy.cause.value, policy.retry, str(error))


@contextmanager
def _trusting(task: Task) -> Iterator[None]:
    """A fault of the task's plan is a failure of the grader, not of the agent."""
    try:
        yield
    except PlanError as e:
        raise GraderError(f"{task.name}: {e}", hint="the task is damaged or was made by another version; mint it again") from e


def _request(
    command: procedure.PreparedCommand, preparation: Preparation, environment: Environment, timeout_s: float, cores: tuple[int, ...]
) -> ExecRequest:
    argv = command.argv
    if Defence.CLEAN_ENV not in preparation.defences:
        argv = ("sh", "-c", '[ -r "$HOME/.profile" ] && . "$HOME/.profile"; exec "$@"', "sh", *argv)
    env = command.variables(environment.env)
    return ExecRequest(argv=argv, env=env, cwd=preparation.plan.work_dir, timeout_s=max(timeout_s, 1.0), cores=cores)


def _varied(phase: procedure.Phase, variation: Variation, missing: Collection[str]) -> procedure.Phase:
    commands = []
    for command in phase.commands:
        argv = [a for a in command.argv if a not in missing]
        if variation.order_seed is not None:
            argv = grading_box.reordered(argv, [f.path for f in phase.sealed.files], variation.order_seed)
        commands.append(replace(command, argv=tuple(argv), env={**command.env, **variation.env}))
    return replace(phase, commands=tuple(commands))


async def _in_parts(task: Task, once: Callable[[Task], Awaitable[tuple[dict[K, V], bool]]], splits: int = SPLITS) -> dict[K, V]:
    """The results for all canaries of the task. If a run was cut short (memory, time, a crash), each half of them is run separately."""
    said, whole = await once(task)
    templates = sorted({canary.template for canary in task.plan.canaries})
    if whole or not splits or not templates[1:]:
        return said
    found: dict[K, V] = {}
    for half in (templates[::2], templates[1::2]):
        canaries = tuple(canary for canary in task.plan.canaries if canary.template in half)
        found |= await _in_parts(task.model_copy(update={"plan": replace(task.plan, canaries=canaries)}), once, splits - 1)
    return found


def _under_its_own_name(canary: Canary, templates: Sequence[str]) -> Canary:
    """The canary in a file of its own, shared with no other template."""
    destination = canary.destination.replace(TOKEN, f"{TOKEN}_{templates.index(canary.template)}")
    return replace(canary, destination=destination, id=destination + canary.id.removeprefix(canary.destination), unaltered=False)


def _honest(preparation: Preparation, results: Sequence[CommandOutcome]) -> list[bool]:
    """For each canary, in the plan's order: whether every run of it had the expected status."""
    verdicts: dict[tuple[str, str, str], bool] = {}
    for phase, statuses in procedure.read_phases(preparation, results):
        for canary in phase.canaries:
            status = statuses.get(canary.id)
            fits = status == "passed" if canary.kind == "renamed" else status in BAD
            key = (canary.kind, canary.template, canary.origin)
            verdicts[key] = verdicts.get(key, True) and fits
    return [verdicts.get((c.kind, c.template, c.origin), False) for c in preparation.plan.canaries]
