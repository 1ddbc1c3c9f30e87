"""The gates "equivalents" and "mutation score": equivalent solutions must score 1, wrong ones 0.

`languages` derives the variants from the fix; here they become changes, are graded and judged. A language without variants passes both
gates, and the report says that nothing was tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from envfarm.core.candidate import Gate
from envfarm.core.change import Change
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from envfarm.grading.integrity import ALL, Defence
from task_builders.concurrency import all_of
from task_builders.languages.variant import Variant
from task_builders.validation import scoring
from task_builders.validation.bench import Bench
from task_builders.validation.language_tools import of_language
from task_builders.validation.scoring import Score

MIN_SCORE = 0.5
"""Below this, most wrong solutions would be rewarded. 1 cannot be required, since some mutants are in fact equivalent to the fix."""
MIN_JUDGED = 4
"""With fewer mutants the share means nothing: two that survive may both be equivalent to the fix."""
MUTANTS_MAX = 12
EQUIVALENTS_MAX = 4
MUTANT_SLOWER, MUTANT_MORE_S = 5.0, 10.0
TESTS_ALONE = ALL - {Defence.CANARIES, Defence.BLIND_CANARIES}
"""Code whose tests fail scores 0, whatever canaries say: they can only take a reward away."""


async def equivalents(bench: Bench, task: Task, gold: Change, base: Mapping[str, str]) -> GateResult:
    """Grade solutions that are written differently but equivalent."""
    before, after = _texts(task, gold, base)
    tools = of_language(task.language)
    made = tools.equivalents(before, after, task.name, EQUIVALENTS_MAX) if tools else ()
    scores = await all_of(scoring.grade_once(bench, task, change_of(gold, variant, task.plan.work_dir), brief=True) for variant in made)
    return judge_equivalents(made, scores)


async def mutation_score(bench: Bench, task: Task, gold: Change, base: Mapping[str, str], *, narrow: Task, gold_s: float) -> GateResult:
    """Grade wrong solutions: what fails the tests of the `narrow` plan also fails the whole task, and only the rest is graded with it.

    Wrong code often never ends, so a run that takes far longer than the solution's `gold_s` counts as failed.
    """
    narrow, task = (scoring.within(one, MUTANT_SLOWER * gold_s + MUTANT_MORE_S) for one in (narrow, task))
    before, after = _texts(task, gold, base)
    tools = of_language(task.language)
    made = tools.mutants(before, after, task.name, MUTANTS_MAX) if tools else ()

    async def grade(variant: Variant) -> Score:
        change = change_of(gold, variant, task.plan.work_dir)
        score = await scoring.grade_once(bench, narrow, change, defences=TESTS_ALONE)
        return score if score.reward == 0.0 else await scoring.grade_once(bench, task, change, brief=True)

    return judge_mutants(made, await all_of(grade(variant) for variant in made))


def judge_equivalents(made: Sequence[Variant], scores: Sequence[Score]) -> GateResult:
    """Every variant must score 1."""
    bad = [(v, s) for v, s in zip(made, scores, strict=True) if s.reward != 1.0]
    detail = (
        f"{len(made) - len(bad)} of {len(made)} equivalent solutions score 1" if made else "no equivalent variant can be made of the fix"
    )
    evidence = {"variants": _listed(made, scores), "why": {_name(v): s.why for v, s in bad}}
    return GateResult(gate=Gate.EQUIVALENTS, passed=not bad, detail=detail, evidence=evidence)


def judge_mutants(made: Sequence[Variant], scores: Sequence[Score]) -> GateResult:
    """The share that scores 0 is published. Too low a share among enough mutants is a rejection."""
    killed = sum(score.reward == 0.0 for score in scores)
    share = killed / len(made) if made else None
    passed = share is None or len(made) < MIN_JUDGED or share >= MIN_SCORE
    late = sum(score.timed_out for score in scores)
    detail = f"{killed} of {len(made)} wrong solutions score 0" if made else "no mutant can be made of the fix"
    detail += f", {late} of them out of time" if late else ""
    evidence = {"score": None if share is None else round(share, 3), "out of time": late, "variants": _listed(made, scores)}
    return GateResult(gate=Gate.MUTATION, passed=passed, detail=detail, evidence=evidence)


def change_of(gold: Change, variant: Variant, work_dir: str) -> Change:
    """The solution's change with the variant's texts in place of its own."""
    root = work_dir.strip("/") + "/"
    return Change(
        tuple(
            replace(f, content=variant.files.get(f.path.removeprefix(root), f.content)) if f.content is not None else f for f in gold.files
        ),
        gold.deleted,
    )


def _texts(task: Task, gold: Change, base: Mapping[str, str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The fix's files before and after it, without files that are not UTF-8: they could not be compared."""
    root = task.plan.work_dir.strip("/") + "/"
    after = {f.path.removeprefix(root): f.content for f in gold.files if f.content is not None and f.path.startswith(root)}
    before = {path: base[path].encode() for path in after if path in base and "\ufffd" not in base[path]}
    return before, {path: data for path, data in after.items() if path in before or path not in base}


def _listed(made: Sequence[Variant], scores: Sequence[Score]) -> dict[str, float]:
    return {_name(variant): score.reward for variant, score in zip(made, scores, strict=True)}


def _name(variant: Variant) -> str:
    return f"{variant.kind} ({variant.path}:{variant.line})"
