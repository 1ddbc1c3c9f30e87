"""The gates that terminal tasks have in place of a language's: sufficiency, canaries (`bite`), equivalents, mutation score."""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import asdict, replace

from envfarm.core.candidate import Gate
from envfarm.core.change import Change
from envfarm.core.plan import Case
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from envfarm.grading import outputs
from task_builders.concurrency import all_of
from task_builders.minting import Rules
from task_builders.questions import held_out
from task_builders.terminal import derived_programs, make, sufficiency
from task_builders.validation import scoring
from task_builders.validation.bench import Bench
from task_builders.validation.examination import Examination, first_failure
from task_builders.validation.scoring import Score
from task_builders.validation.variants import MIN_SCORE

FEW_CASES = "too few stable cases with distinct outputs are left, or none of them has records that are not visible"


async def bite(bench: Bench, task: Task, gold: Change) -> GateResult:
    """In place of canaries: if each case expects the output of another case, the right program must fail them all."""
    cases = task.plan.cases
    altered = task.model_copy(update={"tests": {**task.tests, **turned(task)}})
    async with bench.boxes:
        seen = await bench.grader().run_plan(altered, gold, environment=bench.environment)
    bitten = [case.id for case in cases if seen.statuses.get(case.id) == "failed"]
    alike = len(cases) - len({_form(task, case) for case in cases})
    detail = f"{len(bitten)} of {len(cases)} cases fail if the output of another case is expected; expected outputs enter no box"
    detail += f"; {alike} of them expect the same output as another case" if alike else ""
    return GateResult(gate=Gate.CANARIES, passed=len(bitten) == len(cases), detail=detail)


def turned(task: Task) -> dict[str, bytes]:
    """Each case's expected output, exchanged for that of another case which the relation does not treat as equal."""
    outputs_of = {_form(task, case): task.tests[_expected(case)] for case in task.plan.cases}
    following = dict(zip(outputs_of, [*list(outputs_of)[1:], *list(outputs_of)[:1]], strict=True))
    return {_expected(case): outputs_of[following[_form(task, case)]] for case in task.plan.cases}


def _expected(case: Case) -> str:
    return f"cases/{case.folder}/expected"


def _form(task: Task, case: Case) -> Hashable:
    return outputs.normal(task.tests[_expected(case)], case.relation)


async def equivalents(bench: Bench, task: Task) -> GateResult:
    """Equivalent programs must score 1."""
    scores = await _grade(bench, task, derived_programs.equivalents(task))
    bad = {name: score.why for name, score in scores.items() if score.reward != 1.0}
    detail = f"{len(scores) - len(bad)} of {len(scores)} equivalent programs score 1"
    mismatches = {name: asdict(score.mismatch) for name, score in scores.items() if score.mismatch is not None}
    return GateResult(gate=Gate.EQUIVALENTS, passed=not bad, detail=detail, evidence={"why": bad, "mismatches": mismatches})


async def mutation_score(bench: Bench, task: Task) -> GateResult:
    """Most wrong programs must score 0; a few may be right by chance."""
    scores = await _grade(bench, task, derived_programs.mutants(task))
    share = sum(score.reward == 0.0 for score in scores.values()) / len(scores)
    detail = f"{sum(s.reward == 0.0 for s in scores.values())} of {len(scores)} wrong programs score 0"
    evidence = {"score": round(share, 3), "variants": {name: score.reward for name, score in scores.items()}}
    return GateResult(gate=Gate.MUTATION, passed=share >= MIN_SCORE, detail=detail, evidence=evidence)


async def _grade(bench: Bench, task: Task, changes: Mapping[str, Change]) -> dict[str, Score]:
    scores = await all_of(scoring.grade_once(bench, task, change) for change in changes.values())
    return dict(zip(changes, scores, strict=True))


def with_cases(task: Task, wanted: Collection[str]) -> Task | None:
    """The task with only the given cases; None if the visible one is not among them, or the others are too few (`held_out`)."""
    kept = tuple(case for case in task.plan.cases if case.id in wanted)
    examples = {case.id.removeprefix(make.CASE): make.example(task, case) for case in kept}
    visible = next((case for case in kept if case.visible), None)
    if visible is None or not held_out.are_enough(make.example(task, visible), examples, visible.relation):
        return None
    plan = replace(task.plan, cases=kept, fail_to_pass=tuple(case.id for case in kept))
    tests = {path: data for path, data in task.tests.items() if any(path.startswith(f"cases/{case.folder}/") for case in kept)}
    return task.model_copy(update={"plan": plan, "tests": tests})


def sufficient(task: Task) -> GateResult:
    """The sufficiency gate for a finished task: what its instruction tells, and whether its cases suffice."""
    result = sufficiency.judge(task)
    enough = with_cases(task, [case.id for case in task.plan.cases]) is not None
    return result if enough or not result.passed else result.model_copy(update={"passed": False, "detail": FEW_CASES})


async def through(examination: Examination, rules: Rules, *, to_the_end: bool = False) -> GateResult | None:
    """Run the gates that need the finished task; returns the first that fails, or None. `to_the_end`: continue after a failure."""
    bench, task, gold = examination.bench, examination.task, examination.solution

    async def own_bite() -> GateResult:
        return examination.keep(await bite(bench, task, gold))

    async def own_equivalents() -> GateResult:
        return examination.keep(await equivalents(bench, task))

    async def own_mutants() -> GateResult:
        return examination.keep(await mutation_score(bench, task))

    checks = [examination.check_ids, examination.check_licence, examination.check_leaks]
    checks += [own_bite, examination.check_gold, examination.check_nop]
    checks += [examination.check_attacks] if rules.attacks else []
    checks += [own_equivalents, own_mutants] if rules.mutants else []
    if to_the_end:
        results = [await check() for check in checks]
        return next((result for result in results if not result.passed), None)
    return await first_failure(checks)
