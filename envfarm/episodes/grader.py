"""The grader: a fresh box, the agent's change, the sealed tests, a verdict.

Called by the episode runner (through `core.protocols.Grader`) and by task validation, which also asks for raw statuses. All decisions
are `envfarm.grading`'s; here they are carried out. It must never believe what a box says of itself beyond its reports.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
from envfarm.grading import procedure
from envfarm.grading.integrity import ALL, BAD, Defence
from envfarm.grading.procedure import TOKEN, CommandOutcome, Preparation


class Variation(Frozen):
    """What differs on purpose between two runs of one suite, to find tests that are not stable."""

    env: dict[str, str] = {}
    """Variables on top of the plan's: `PYTHONHASHSEED`, `TZ`, `LANG`, …"""
    order_seed: int | None = None
    """Test files are named in an order drawn from it; as planned where absent."""
    cores: tuple[int, ...] = ()
    """CPUs that commands may use; all of the box's where empty."""


PLAIN = Variation()
K = TypeVar("K")
V = TypeVar("V")
SPLITS = 3
"""How often the canaries that a test module may have are halved, where a box is too small for all of them at once: a grading runs few."""


class PlanRun(Frozen):
    """What the suite said in one box, not judged."""

    statuses: dict[str, TestStatus]
    exit_codes: tuple[int | None, ...]
    seconds: float
    log_tail: str
    notes: tuple[str, ...] = ()
    """Time and box limits that were hit, reports that could not be read."""


class _Ran(NamedTuple):
    """What came of a preparation's commands in one box."""

    results: list[CommandOutcome]
    findings: list[Finding]
    open: bool = False
    """Whether only the blind phase was run, and it leaves a reward possible."""


class SandboxGrader:
    """Grades in boxes of a provider."""

    def __init__(
        self,
        provider: SandboxProvider,
        *,
        defences: Collection[Defence] = ALL,
        brief: bool = False,
        draw_token: Callable[[], str] = secrets.token_hex,
        observer: Observer = UNOBSERVED,
    ) -> None:
        """Only the attack gate and tests hand in `defences`. `draw_token` gives a fresh secret for each grading.

        A brief grader gives the same rewards, and does not run the tests where canaries alone make it 0: for those who ask often, and
        for nothing but the reward.
        """
        self._provider = provider
        self._defences = frozenset(defences)
        self._brief = brief
        self._draw_token = draw_token
        self._observer = observer

    async def grade(
        self, task: Task, change: Change, *, environment: Environment, holder: Holder = NOBODY, bill: Bill | None = None
    ) -> Outcome:
        """Grade in fresh boxes (modes `isolated` and `replayed`). Never raises for what the agent did."""
        try:
            return await self._grade(task, change, partial(self._fresh_box, task, environment, holder, bill), environment)
        except EnvfarmError as e:
            return invalid(e)

    async def _grade(
        self, task: Task, change: Change, fresh_box: Callable[[], AbstractAsyncContextManager[Box]], environment: Environment
    ) -> Outcome:
        """Blind rounds, each in a fresh box, then the tests: in the last round's, or as soon as a round shows that there is no reward.

        The tests come last, so that what code learns of them has no later round to be carried to, by whatever ways boxes share.
        """
        asked: set[str] = set()
        rounds: list[tuple[Preparation, _Ran]] = []
        while True:
            preparation = self._prepare(task, change, asked=asked)
            asked |= procedure.templates_asked(preparation)
            async with fresh_box() as box:
                refused = await grading_box.apply(box, preparation.kept)
                if refused is not None:
                    return procedure.judge(preparation, (), [refused])
                more = len(rounds) + 1 < procedure.blind_rounds(task.plan)
                ran = await self._run(box, preparation, task, environment, blind_alone=more)
            if not ran.open:
                break
            rounds.append((preparation, ran))
        with boundary(GraderError, "judging"):
            scored = procedure.judge(preparation, ran.results, ran.findings)
            return self._doubted(scored, rounds) if scored.reward > 0 else scored

    def _doubted(self, scored: Scored, rounds: Sequence[tuple[Preparation, _Ran]]) -> Scored:
        """The verdict beside what earlier blind rounds said: only together they bound a guess."""
        for preparation, ran in rounds:
            blind = procedure.blind_part(preparation)
            doubts = procedure.judge_blind(blind, ran.results, scored.report.statuses, ran.findings) if blind else ()
            if doubts:
                return procedure.believed(scored, doubts, len(rounds))
        return procedure.believed(scored, (), len(rounds)) if rounds else scored

    async def grade_in_place(self, task: Task, box: Box, change: Change, *, environment: Environment) -> Outcome:
        """Grade in the agent's own box (mode `shared`), after killing what it left. The caller closes the box.

        Added files that influence tests are removed; those that the agent changed cannot be put back, which is why the mode is marked.
        """
        try:
            preparation = self._prepare(task, change)
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
            return procedure.judge(preparation, (), [Finding("box answers", ok=False, detail=f"the agent broke its box: {e}")])
        except EnvfarmError as e:
            return invalid(e)

    async def run_plan(
        self, task: Task, change: Change, *, environment: Environment, with_tests: bool = True, variation: Variation = PLAIN
    ) -> PlanRun:
        """Run the suite and say what every test said. Raises what the box raises.

        Without tests the tree's own test files are run, those of them that exist.
        """
        defences = self._defences - {Defence.CANARIES, Defence.BLIND_CANARIES}
        if not with_tests:
            defences -= {Defence.RESTORE_TESTS}
        preparation = self._prepare(task, change, defences)
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
            notes=tuple(notes),
        )

    async def check_canaries(self, task: Task, change: Change, *, environment: Environment) -> dict[Canary, bool]:
        """Run every canary of the plan once blind and once beside the tests, and say which answered as it must at the fix.

        All of them run in one box, or in several where they are too many for one: those that are alternatives get names of their own.
        Raises what the box raises.
        """

        async def once(part: Task) -> tuple[dict[Canary, bool], bool]:
            templates = sorted({c.template for c in part.plan.canaries})
            apart = tuple(_under_its_own_name(c, templates) for c in part.plan.canaries)
            one = part.model_copy(update={"plan": replace(part.plan, canaries=apart)})
            preparation = self._prepare(one, change)
            results, whole = await self._in_fresh_box(one, preparation, environment)
            return dict(zip(part.plan.canaries, _honest(preparation, results), strict=True)), whole

        return await _in_parts(task, once)

    async def try_copies(self, task: Task, change: Change, *, environment: Environment) -> dict[str, TestStatus]:
        """Run the plan's canary files once, alone, and say what each test in them answered, in the report's order.

        Ids have the placeholder where the drawn word was. For those who make canaries; raises what the box raises.
        """

        async def once(part: Task) -> tuple[dict[str, TestStatus], bool]:
            preparation = procedure.blind_part(self._prepare(part, change))
            if preparation is None:
                return {}, True
            results, whole = await self._in_fresh_box(part, preparation, environment)
            return procedure.with_placeholders(preparation, results), whole

        return await _in_parts(task, once)

    async def _in_fresh_box(self, task: Task, preparation: Preparation, environment: Environment) -> tuple[Sequence[CommandOutcome], bool]:
        """What came of the preparation's commands, and whether every one of them ended by itself."""
        async with self._fresh_box(task, environment) as box:
            await grading_box.restore(box, preparation.kept)
            ran = await self._run(box, preparation, task, environment)
        planned = sum(len(phase.commands) for phase in preparation.phases)
        return ran.results, [r.exit_code is not None for r in ran.results] == [True] * planned

    def _prepare(self, task: Task, change: Change, defences: Collection[Defence] | None = None, asked: Collection[str] = ()) -> Preparation:
        used = self._defences if defences is None else defences
        try:
            return procedure.prepare(task.plan, task.tests, change, token=self._draw_token(), defences=used, asked=asked)
        except PlanError as e:
            raise GraderError(f"{task.name}: {e}", hint="the task is damaged or was made by another version: mint it again") from e

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
            return procedure.judge(preparation, ran.results, [*found, *ran.findings])

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
        """Run the phases; with `blind_alone` the tests only where the blind one leaves no reward.

        From the first command on, a box that breaks was broken by the code under test; after it, so is one that refuses anything, as it
        does where folders were closed. Only a box that is lost is the infrastructure's.
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
                results.append(outcome)
                findings += seen
                left_s -= outcome.duration_s
                if outcome.timed_out or left_s <= 0:
                    return _Ran(results, findings)
            if phase is preparation.phases[-1] or not (self._brief or blind_alone):
                continue
            refuted = procedure.refuted(preparation, phase, results)
            if refuted and self._brief:
                return _Ran(results, [refuted, *findings])
            if blind_alone and not refuted:
                return _Ran(results, findings, open=True)
        return _Ran(results, findings)

    async def _put_in_place(self, box: Box, phase: procedure.Phase, preparation: Preparation) -> Finding | None:
        """Before the first phase, what cannot be put beside the agent's change is that change's doing."""
        if phase is not preparation.phases[0]:
            return await grading_box.apply(box, phase.sealed, "sealed tests can be put in place")
        await box.resume()
        return await grading_box.apply(box, grading_box.with_scratch(phase.sealed, preparation.scratch), "sealed tests can be put in place")


def invalid(error: EnvfarmError) -> Invalid:
    """A failure before or around the agent's code. A box that broke before that code ran in it is the infrastructure's."""
    policy = error.policy
    if isinstance(error, BoxBroken):
        return Invalid(Cause.SANDBOX.value, retryable=True, detail=f"a fresh box broke: {error}")
    return Invalid(policy.cause.value, policy.retry, str(error))


def _request(
    command: procedure.PreparedCommand, preparation: Preparation, environment: Environment, timeout_s: float, cores: tuple[int, ...]
) -> ExecRequest:
    env = {name: value for name, value in command.env.items() if value or name in command.source.env or name not in environment.env}
    argv = command.argv
    if Defence.CLEAN_ENV not in preparation.defences:
        argv = ("sh", "-c", '[ -r "$HOME/.profile" ] && . "$HOME/.profile"; exec "$@"', "sh", *argv)
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
    """What all canaries of the task said. Where a run was cut short (by memory, time or a crash), each half of them runs by itself."""
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
    """The canary in a file that no other template goes to."""
    destination = canary.destination.replace(TOKEN, f"{TOKEN}_{templates.index(canary.template)}")
    return replace(canary, destination=destination, id=destination + canary.id.removeprefix(canary.destination), unaltered=False)


def _honest(preparation: Preparation, results: Sequence[CommandOutcome]) -> list[bool]:
    """For each canary in the plan's order: whether every run of it answered as it must."""
    verdicts: dict[tuple[str, str, str], bool] = {}
    for phase, statuses in procedure.read_phases(preparation, results):
        for canary in phase.canaries:
            status = statuses.get(canary.id)
            fits = status == "passed" if canary.kind == "renamed" else status in BAD
            key = (canary.kind, canary.template, canary.origin)
            verdicts[key] = verdicts.get(key, True) and fits
    return [verdicts.get((c.kind, c.template, c.origin), False) for c in preparation.plan.canaries]
