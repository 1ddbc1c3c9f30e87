"""Takes a question to a validated terminal task, or to the gate at which it failed.

The answers' programs are tried in a box of the task's environment; what that decides becomes the cases. The gates are those of every task,
run in boxes of the same bench.
"""

import base64
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.errors import BoxBroken, ImageError
from envfarm.core.protocols import Box
from envfarm.core.question import Question
from envfarm.core.recipe import Recipe
from envfarm.core.sandbox import SandboxSpec
from envfarm.core.task import Limits, Task
from envfarm.core.validation import Cost, GateResult
from task_builders import machine_faults
from task_builders.candidates.decontamination import Decontamination
from task_builders.journal import Reached
from task_builders.minting import REASONS, Rules, Tools
from task_builders.pipeline import Minted, Refused, Stage
from task_builders.questions import box_runs
from task_builders.questions import trial as trials
from task_builders.questions.trial import Trial
from task_builders.questions.understanding import Understood
from task_builders.specs.make import with_verifier_time
from task_builders.terminal import gates, make, sufficiency
from task_builders.terminal.earlier import Earlier
from task_builders.validation import agent_box, cost, measure, states
from task_builders.validation.bench import Bench
from task_builders.validation.examination import Examination

PYTHON = "3.11"
"""Preferred among the available interpreters."""
KEPT_RUNS = 40
TOLD_REASONS = (
    gates.FEW_CASES,
    sufficiency.TOLD,
    sufficiency.UNTOLD,
    sufficiency.SAYS_TOO_LITTLE,
    sufficiency.HIDDEN_THRESHOLD,
    sufficiency.HIDDEN_WORD,
    sufficiency.ASKS_NOTHING,
)
"""Gate details that also serve as rejection reasons."""


@dataclass
class QuestionMint:
    """Takes one question through the gates."""

    question: Question
    understood: Understood
    tools: Tools
    rules: Rules
    decontamination: Decontamination
    earlier: Callable[[Task], Awaitable[Earlier | None]]
    """Finds the task of another build that a new one repeats."""
    stage: Stage
    try_out: Callable[[Box, Understood], Awaitable[tuple[Understood, Trial]]] = trials.run
    """Finds the task's program and cases, in a box of the task's environment."""
    assemble: Callable[[Question, Understood, Trial, Recipe, str], Task] = make.task

    async def run(self) -> Minted | Refused:
        """Run all gates. Raises infrastructure errors."""
        started = time.monotonic()
        self.stage("environment")
        versions = [toolchain.version for toolchain in self.tools.preparer.workshop.toolchains]
        recipe = make.recipe(self.understood, next((v for v in versions if v.startswith(PYTHON)), versions[-1]))
        checkout = await self.tools.blobs.put(make.checkout(self.understood))
        try:
            built = await self.tools.preparer.workshop.builder.build(recipe, checkout=checkout)
        except ImageError as e:
            machine_faults.blame(e)
            return self._refused(Gate.SETUP, "no environment could be built", str(e), started)
        bench = Bench(
            provider=self.tools.provider,
            environment=built.environment,
            blobs=self.tools.blobs,
            boxes=self.tools.boxes,
            cores=self.tools.cores,
        )
        self.stage("trial")
        self.understood, trial = await self._trial(bench)
        if not trial.enough:
            return self._refused(Gate.SETUP, trial.verdict, _words(trial), started, trial)
        task = self.assemble(self.question, self.understood, trial, recipe, self._name())
        if (first := await self.earlier(task)) is not None:
            return self._refused(Gate.DUPLICATE, first.reason, first.row.name, started, trial, first.evidence)
        files = await self.tools.blobs.put(make.checkout(self.understood))
        task = task.model_copy(update={"checkout": files.digest})
        examination = Examination(bench, task, repeats=self.rules.repeats, progress=self.stage)
        examination.keep(GateResult(gate=Gate.SETUP, passed=True, detail=trial.verdict, evidence=_evidence(trial)))
        failed = await self._gates(examination)
        if failed is not None:
            reason = failed.detail if failed.detail in TOLD_REASONS else REASONS.get(failed.gate, failed.gate.value)
            return self._refused(failed.gate, reason, failed.detail, started, trial, failed.evidence)
        seconds, spent = time.monotonic() - started, cost.of_builds((built.facts,))
        report = examination.report(provider=bench.provider.name, now=self.tools.now(), built=spent, seconds=seconds)
        return Minted(task=examination.task, report=report)

    async def _trial(self, bench: Bench) -> tuple[Understood, Trial]:
        limits = Limits(memory_mib=512, disk_mib=256, pids=128)
        async with bench.boxes:
            box = await bench.provider.create(SandboxSpec.within(limits, bench.environment))
            try:
                return await self.try_out(box, self.understood)
            except BoxBroken as e:
                failed = box_runs.Run(case=trials.VISIBLE, answer=self.question.answers[0].id, output="", failed=f"it broke its box: {e}")
                return self.understood, Trial(runs=(failed,), reproduced=False)
            finally:
                await box.close()

    async def _gates(self, examination: Examination) -> GateResult | None:
        bench, untold = examination.bench, sufficiency.untold(examination.task)
        reduced = gates.with_cases(examination.task, [case.id for case in examination.task.plan.cases if case.id not in untold])
        if reduced is None:
            detail = sufficiency.UNTOLD if untold else gates.FEW_CASES
            return GateResult(gate=Gate.SUFFICIENCY, passed=False, detail=detail, evidence={"unmet": untold})
        task = examination.task = reduced
        for early in (self.decontamination.judge(task), sufficiency.judge(task)):
            if not examination.keep(early).passed:
                return early
        self.stage("solution")
        left = await agent_box.solved(bench, task)
        if left.exit_code != 0:
            return GateResult(gate=Gate.GOLD, passed=False, detail="the solution does not apply", evidence={"log": left.log})
        examination.solution = left.change
        first = await measure.first_round(bench, task, left.change, progress=self.stage)
        measured = await measure.other_rounds(bench, task, left.change, first, repeats=self.rules.repeats, progress=self.stage)
        examination.runs, examination.flakes = measured.runs, measured.verdict.ledger
        result = examination.keep(states.gate_result(measured.verdict, measured.runs))
        kept = gates.with_cases(task, measured.verdict.fail_to_pass)
        if not result.passed or kept is None:
            evidence = {**result.evidence, "left_out": measured.verdict.left_out}
            return GateResult(gate=Gate.STATES, passed=False, detail=gates.FEW_CASES, evidence=evidence)
        examination.task = with_verifier_time(kept, measured.slowest_s)
        return await gates.through(examination, self.rules)

    def _name(self) -> str:
        letters = hashlib.sha256(self.question.digest.encode()).digest()
        site = self.question.name.removesuffix(".com").replace(".", "-")
        return f"{site}/{self.understood.tools[0]}-{base64.b32encode(letters).decode().lower()[:8]}"

    def _wanted(self) -> dict[str, object]:
        return {"wanted": [{"shown by": who, "output": text[:500]} for who, text in self.understood.wanted]}

    def _refused(
        self, gate: Gate, reason: str, detail: str, started: float, trial: Trial | None = None, evidence: dict[str, object] | None = None
    ) -> Refused:
        seconds = time.monotonic() - started
        seen = {**(evidence or {}), **(_evidence(trial) | self._wanted() if trial else {})}
        rejection = Rejection.of(self.question, gate, reason, detail[:500], evidence=seen, seconds=seconds)
        reached: Reached = "candidate" if gate is Gate.SETUP else "set up"
        return Refused(rejection=rejection, reached=reached, cost=Cost(validate_s=round(seconds, 2)))


def _words(trial: Trial) -> str:
    if trial.reproduced:
        return f"{len(trial.decided)} variants are decided; not: {', '.join(trial.undecided)}"
    return next((r.failed for r in trial.runs if r.failed), "")


def _evidence(trial: Trial) -> dict[str, object]:
    return {
        "witness": trial.witness,
        "relation": trial.relation,
        "two answers agree on all": trial.agreed,
        "decided": {name: each.by for name, each in trial.decided.items()},
        "undecided": list(trial.undecided),
        "changed programs that print the visible output": trial.mutants,
        "those that pass all cases": list(trial.survivors),
        "runs": [run.model_dump() | {"output": run.output[:500]} for run in trial.runs[:KEPT_RUNS]],
    }
