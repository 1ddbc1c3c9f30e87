"""A task of the catalogue through every required gate: an imported one, in another sandbox, or because time has passed. Called by the
validate command, and by a build for tasks that another sandbox's build made.

Every gate is gone through, also after one that fails: a report of all that is wrong is worth more than a quick one. What the rules leave
out, and what there are no tools for in the task's language, is missing in the report, which is then short of valid. The task stays.
"""

import time

from envfarm.core.candidate import Gate
from envfarm.core.image import BlobRef, Environment
from envfarm.core.task import Task
from envfarm.core.validation import Cost, GateResult, ValidationReport
from task_builders.candidates.decontamination import Decontamination
from task_builders.minting import Rules, Tools
from task_builders.terminal import gates as terminal_gates
from task_builders.validation import agent_box, cost, measure, states
from task_builders.validation.bench import Bench, Progress, silent
from task_builders.validation.demands import demands_of
from task_builders.validation.examination import Examination, require_solution
from task_builders.validation.language_tools import LanguageTools, of_language
from task_builders.validation.states import Verdict

NAMED_MAX = 20


async def revalidate(
    task: Task, tools: Tools, rules: Rules, *, known: Decontamination | None = None, progress: Progress = silent
) -> ValidationReport:
    """The report of one task in the boxes of these tools, compared with the `known` tasks. Raises what the infrastructure raises."""
    progress("environment")
    environment, built = await _environment(task, tools)
    started = time.monotonic()
    bench = Bench(provider=tools.provider, environment=environment, blobs=tools.blobs, boxes=tools.boxes, cores=tools.cores)
    examination = Examination(bench, task, repeats=rules.repeats, progress=progress)
    left = await agent_box.solved(bench, task)
    require_solution(left.exit_code, left.log)
    examination.solution = left.change
    await _states(examination, rules.repeats)
    examination.keep((known or Decontamination()).judge(task))
    if task.kind == "terminal":
        examination.keep(terminal_gates.sufficient(task))
        await terminal_gates.through(examination, rules, to_the_end=True)
        return examination.report(provider=tools.provider.name, now=tools.now(), built=built, seconds=time.monotonic() - started)
    if (language := of_language(task.language)) is not None:
        examination.check_canaries()
        await _sufficiency(examination, language, tools)
    for check in (
        examination.check_ids,
        examination.check_licence,
        examination.check_leaks,
        examination.check_gold,
        examination.check_nop,
        *([examination.check_attacks] if rules.attacks else []),
        *([examination.check_equivalents, examination.check_mutants] if rules.mutants else []),
    ):
        await check()
    return examination.report(provider=tools.provider.name, now=tools.now(), built=built, seconds=time.monotonic() - started)


async def _environment(task: Task, tools: Tools) -> tuple[Environment, Cost]:
    checkout = None
    if task.checkout is not None:
        checkout = BlobRef(digest=task.checkout, size_bytes=len(await tools.blobs.get(task.checkout)))
    built = await tools.preparer.workshop.builder.build(task.recipe, checkout=checkout)
    return built.environment, cost.of_builds((built.facts,))


async def _sufficiency(examination: Examination, language: LanguageTools, tools: Tools) -> None:
    """Whether every test that the plan asks for can be asked for. Left out where the tree that the agent sees is in its image alone."""
    examination.progress("sufficiency")
    task, base = examination.task, await examination.base_texts()
    if base:
        is_test = tools.preparer.profile.is_test
        demands = await demands_of(task, examination.bench, language, tests=task.plan.fail_to_pass, base=base, is_test=is_test)
        examination.keep(demands.judge(task.instruction).gate_of_all)


async def _states(examination: Examination, repeats: int) -> None:
    bench, task, gold = examination.bench, examination.task, examination.solution
    first = await measure.first_round(bench, task, gold, progress=examination.progress)
    measured = await measure.other_rounds(bench, task, gold, first, repeats=repeats, progress=examination.progress)
    examination.runs, examination.flakes = measured.runs, measured.verdict.ledger
    examination.keep(plan_holds(task, measured.verdict))


def plan_holds(task: Task, verdict: Verdict) -> GateResult:
    """Whether everything that the plan expects was seen again."""
    lost = [t for t in task.plan.fail_to_pass if t not in set(verdict.fail_to_pass)]
    lost += [t for t in task.plan.pass_to_pass if t not in {*verdict.pass_to_pass, *verdict.fail_to_pass}]
    expected = len(task.plan.fail_to_pass) + len(task.plan.pass_to_pass)
    evidence = {**verdict.figures, "lost": {t: verdict.left_out.get(t, "not as before") for t in lost[:NAMED_MAX]}}
    detail = f"{expected - len(lost)} of {expected} expected tests behave as the plan says, {states.in_repeats(verdict.repeats)}"
    return GateResult(gate=Gate.STATES, passed=not lost and expected > 0, detail=detail, evidence=evidence)
