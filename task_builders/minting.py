"""From a candidate with its environment to a task that passed every gate, or to the gate that it failed at. Called by the stages.

The cheap gates come first: one run of each state, then what needs no box, then the repeats. Nothing here sets environments up.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.frozen import Frozen
from envfarm.core.plan import TestCommand
from envfarm.core.protocols import BlobStore, SandboxProvider
from envfarm.core.source import SourceRecord
from envfarm.core.task import Task
from envfarm.core.validation import Cost, GateResult
from task_builders.candidates import instruction, patch
from task_builders.languages.vocabulary import Need
from task_builders.pipeline import Minted, Refused, Stage
from task_builders.preparing import Preparer
from task_builders.specs import make
from task_builders.specs.make import Footing
from task_builders.specs.sealed import SealedFiles
from task_builders.validation import agent_box, canary_gate, cost, flakes, gold, measure, states, sufficiency
from task_builders.validation.attacks.library import LIBRARY
from task_builders.validation.bench import Bench
from task_builders.validation.demands import demands_of
from task_builders.validation.examination import Examination, first_failure
from task_builders.validation.language_tools import of_language
from task_builders.validation.measure import Measured
from task_builders.validation.variants import MUTANTS_MAX

REASONS = {
    Gate.SUFFICIENCY: sufficiency.REASON,
    Gate.IDS: "the instruction leads upstream",
    Gate.LICENCE: "the licence is not known",
    Gate.LEAK: "the environment tells the fix",
    Gate.CANARIES: canary_gate.REASON,
    Gate.GOLD: "the solution does not always score 1",
    Gate.NOP: "doing nothing does not always score 0",
    Gate.ATTACKS: "an exploit scores",
    Gate.EQUIVALENTS: "an equal solution does not score 1",
    Gate.MUTATION: "too many wrong solutions score 1",
}


DOES_NOT_APPLY = "the solution does not apply"
NOTHING_LEFT = "no steady test is left that can be asked for"
TOO_LONG = "its gates would take too long"
FLAKE_ROUNDS = 2
"""How often flaky tests are left out of a plan and gold is judged anew; then every test counts."""
OWN_REASONS = frozenset({DOES_NOT_APPLY, NOTHING_LEFT, TOO_LONG})
"""Details that are, or begin with, reasons themselves."""


class Material(Frozen):
    """A candidate with all that its task is made of."""

    record: SourceRecord
    candidate: Candidate
    footing: Footing
    sealed: SealedFiles
    built: Cost
    screened: tuple[GateResult, ...] = ()
    """What was passed before an environment was set up."""


@dataclass(frozen=True)
class Tools:
    """What minting and validating run on."""

    provider: SandboxProvider
    blobs: BlobStore
    preparer: Preparer
    boxes: asyncio.Semaphore
    cores: tuple[int, ...]
    now: Callable[[], datetime]


class Rules(Frozen):
    """How strict the gates are."""

    repeats: int = 5
    attacks: bool = True
    mutants: bool = True
    box_hours: float = 4.0
    """Of one box: what a candidate's gates may take, as far as can be foreseen."""


@dataclass
class Mint:
    """One candidate's way through the gates."""

    material: Material
    bench: Bench
    rules: Rules
    is_test: Callable[[str], bool]
    now: Callable[[], datetime]
    stage: Stage
    narrow: tuple[TestCommand, ...] = ()
    """The commands that run only the fix's own test files, once the states are known; none if these need the other files."""

    async def run(self) -> Minted | Refused:
        """Go through every gate. Raises what the infrastructure raises."""
        started = time.monotonic()
        draft = make.draft(self.material.candidate, self.material.footing, self.material.sealed)
        examination = Examination(self.bench, draft, repeats=self.rules.repeats, progress=self.stage)
        examination.upstream = instruction.upstream_of(self.material.record)
        examination.results += self.material.screened
        failed = await self._states_and_text(examination)
        if failed is None:
            failed = await self._disguise(examination) or await self._boxed_gates(examination)
        seconds = time.monotonic() - started
        if failed is not None:
            return self._refused(examination, failed, seconds)
        report = examination.report(provider=self.bench.provider.name, now=self.now(), built=self.material.built, seconds=seconds)
        return Minted(task=examination.task, report=report)

    async def _states_and_text(self, examination: Examination) -> GateResult | None:
        """What the tests say in the three states, and whether they can be asked for; what one run of each can refuse comes first."""
        self.stage("solution")
        left = await agent_box.solved(self.bench, examination.task)
        if left.exit_code != 0:
            return GateResult(gate=Gate.GOLD, passed=False, detail=DOES_NOT_APPLY, evidence={"log": left.log})
        examination.solution = left.change
        first = await measure.first_round(self.bench, examination.task, left.change, is_test=self.is_test, progress=self.stage)
        if not first.verdict.fail_to_pass:
            return self._judged(examination, first)
        checks = [examination.check_ids, examination.check_licence, examination.check_leaks]
        failed = await self._sufficient(examination, first) or self._too_long(first) or await first_failure(checks)
        if failed is not None:
            return failed
        measured = await measure.other_rounds(
            self.bench, examination.task, left.change, first, repeats=self.rules.repeats, is_test=self.is_test, progress=self.stage
        )
        if not (result := self._judged(examination, measured)).passed:
            return result
        unasked = examination.left_out
        verdict = measured.verdict
        wanted = [test for test in verdict.fail_to_pass if test not in unasked]
        if not wanted:
            return GateResult(gate=Gate.STATES, passed=False, detail=NOTHING_LEFT, evidence=result.evidence)
        task = make.finish(
            examination.task, fail_to_pass=wanted, pass_to_pass=verdict.pass_to_pass, left_out={**verdict.left_out, **unasked}
        )
        failing = {test.partition("::")[0] for test in states.failing_with_fix(measured.runs)}
        self.narrow = make.failing_last(self.material.footing.narrow_commands, failing)
        task = make.naming_every_file(task, self.material.footing.narrow_commands)
        task = task.model_copy(update={"plan": replace(task.plan, commands=make.failing_last(task.plan.commands, failing))})
        examination.task = make.with_verifier_time(task, measured.slowest_s)
        return None

    def _too_long(self, first: Measured) -> GateResult | None:
        rules = self.rules
        attacks, mutants = len(LIBRARY) if rules.attacks else 0, MUTANTS_MAX if rules.mutants else 0
        hours = cost.of_gates(first.runs, repeats=rules.repeats, attacks=attacks, mutants=mutants) / 3600
        if hours <= rules.box_hours:
            return None
        seconds = {run.state: f"{run.seconds:.0f} s{' (killed)' if run.timed_out else ''}" for run in first.runs}
        told = ", ".join(f"{state} {took}" for state, took in seconds.items())
        detail = f"{TOO_LONG}: about {hours:.1f} hours of a box, and {rules.box_hours:g} are allowed; {told}"
        return GateResult(gate=Gate.STATES, passed=False, detail=detail, evidence={"box_hours": round(hours, 2), "seconds": seconds})

    def _judged(self, examination: Examination, measured: Measured) -> GateResult:
        examination.runs, examination.flakes = measured.runs, measured.verdict.ledger
        return examination.keep(states.gate_result(measured.verdict, measured.runs))

    async def _sufficient(self, examination: Examination, first: Measured) -> GateResult | None:
        """Leave out what cannot be asked for, or complete the instruction from the thread."""
        tools = of_language(self.material.candidate.language)
        if tools is None:
            return None
        task = examination.task
        demands = await demands_of(
            task,
            self.bench,
            tools,
            tests=first.verdict.fail_to_pass,
            base=await examination.base_texts(),
            is_test=self.is_test,
        )
        verdict = demands.judge(task.instruction)
        if verdict.unmet:
            completed = self._from_the_thread(task.instruction, demands.missing(task.instruction))
            if completed != task.instruction:
                verdict = demands.judge(completed)
                examination.task = task.model_copy(update={"instruction": completed})
        examination.left_out = verdict.left_out
        result = examination.keep(verdict.gate)
        return None if result.passed else result

    def _from_the_thread(self, text: str, missing: Collection[Need]) -> str:
        """Only what was said before the fix, and by the rules of every instruction."""
        record = self.material.record
        upstream = instruction.upstream_of(record)
        fix = instruction.distinctive_lines(patch.parse(self.material.candidate.source_patch))
        early = [c.body for c in record.comments if c.created_at is not None and c.created_at < record.created_at]
        return sufficiency.complete(text, [instruction.told(body, upstream, fix) for body in early], missing)

    async def _disguise(self, examination: Examination) -> GateResult | None:
        """Give the task its canaries, those that behave every time; a task whose tests give none is refused."""
        tools = of_language(self.material.candidate.language)
        task = examination.task
        if tools is None:
            return None
        self.stage("canaries")
        if not await self._stand_alone(examination, make.narrowed(task, self.narrow)):
            self.narrow = ()
        narrow = self.narrow
        notes: tuple[str, ...] = ("no command takes canaries",)
        if any("{canaries}" in command.argv for command in task.plan.commands):
            inputs = canary_gate.CanaryInputs(
                bench=self.bench,
                solution=examination.solution,
                files=self.material.sealed.files,
                base=await examination.base_texts(),
                failing=states.failing_with_fix(examination.runs),
                narrowed=partial(make.narrowed, commands=narrow),
                rounds=min(self.rules.repeats, canary_gate.ROUNDS),
                suite_s=max(run.seconds for run in examination.runs if run.state == states.WITH_FIX),
            )
            task, notes = await canary_gate.disguise(task, tools, inputs)
        examination.task, examination.narrow = task, make.narrowed(task, narrow)
        result = examination.check_canaries(notes)
        return None if result.passed else result

    async def _stand_alone(self, examination: Examination, narrow: Task) -> bool:
        """Whether the fix's own test files pass without the others, too. If not, whatever is graded by them alone scores 0, be it right."""
        if narrow is examination.task:
            return True
        async with self.bench.boxes:
            run = await self.bench.grader().run_plan(narrow, examination.solution, environment=self.bench.environment)
        return all(run.statuses.get(test) == "passed" for test in narrow.plan.fail_to_pass + narrow.plan.pass_to_pass)

    async def _boxed_gates(self, examination: Examination) -> GateResult | None:
        checks: list[Callable[[], Awaitable[GateResult]]] = [partial(self._gold, examination), examination.check_nop]
        if self.rules.attacks:
            checks.append(examination.check_attacks)
        if self.rules.mutants:
            checks += [examination.check_equivalents, examination.check_mutants]
        return await first_failure(checks)

    async def _gold(self, examination: Examination) -> GateResult:
        """The gate, on a plan without the PASS_TO_PASS tests that turn out to be flaky in it."""
        left_out = 0
        for _ in range(FLAKE_ROUNDS):
            result = await examination.check_gold()
            found = gold.flaky(examination.gold_scores, examination.task.plan, left_out=left_out)
            left_out += len(found)
            if not found:
                return result
            examination.results.remove(result)
            examination.flakes += found
            examination.task = make.without(examination.task, {flake.id: flakes.in_words(flake) for flake in found})
            examination.narrow = make.narrowed(examination.task, self.narrow)
        return await examination.check_gold()

    def _refused(self, examination: Examination, failed: GateResult, seconds: float) -> Refused:
        own = failed.detail.partition(": ")[0]
        reason = own if own in OWN_REASONS else REASONS.get(failed.gate, failed.gate.value)
        if failed.gate is Gate.STATES and reason not in OWN_REASONS:
            reason = states.reason(len(examination.runs) // len(states.ORDER))
        passed = {result.gate.value: result.detail for result in examination.results if result.passed}
        evidence = {**failed.evidence, "passed_before": passed}
        rejection = Rejection.of(self.material.candidate, failed.gate, reason, failed.detail, evidence=evidence, seconds=seconds)
        built = self.material.built.model_copy(update={"validate_s": round(seconds, 2)})
        return Refused(rejection=rejection, reached="set up", cost=built)
