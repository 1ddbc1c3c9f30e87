"""The gold gate: the task's own solution, applied as an agent would, scores 1 every time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

from envfarm.core.candidate import Gate
from envfarm.core.plan import TestPlan
from envfarm.core.task import Task
from envfarm.core.validation import Flake, GateResult
from task_builders.validation import agent_box, scoring
from task_builders.validation.bench import Bench
from task_builders.validation.scoring import Score
from task_builders.validation.states import WITH_FIX

FLAKY_SHARE = 0.02
"""Of the PASS_TO_PASS tests, at most this share may be left out as flaky; one always may."""


async def run(bench: Bench, task: Task, repeats: int) -> tuple[Score, ...]:
    """Solve in an agent's box and grade in a fresh one, `repeats` times, each time from the start."""

    async def once() -> Score:
        left = await agent_box.solved(bench, task)
        score = await scoring.grade_once(bench, task, left.change)
        return score if left.exit_code == 0 else score.model_copy(update={"reward": 0.0, "why": f"solve.sh failed: {left.log[-500:]}"})

    return await scoring.several(repeats, once)


def flaky(scores: Sequence[Score], plan: TestPlan, *, left_out: int = 0) -> tuple[Flake, ...]:
    """The PASS_TO_PASS tests that alone keep gold from scoring 1 every time. None if anything else does, or too many, with those
    that were left out for this reason before.

    More runs find flaky tests that the three states did not meet, and these run beside canaries.
    """
    bad = [score for score in scores if score.reward != 1.0]
    counts = Counter(test for score in bad for test in score.unmet)
    allowed = set(plan.pass_to_pass)
    most = max(1, ceil(FLAKY_SHARE * (len(allowed) + left_out)))
    if not all(score.unmet for score in bad) or not allowed.issuperset(counts) or len(counts) + left_out > most:
        return ()
    return tuple(
        Flake(id=test, state=WITH_FIX, counts={"passed": len(scores) - count, "failed": count}) for test, count in sorted(counts.items())
    )


def judge(scores: Sequence[Score]) -> GateResult:
    """Every score must be 1."""
    good = sum(score.reward == 1.0 for score in scores)
    passed = bool(scores) and good == len(scores)
    evidence: dict[str, Any] = {"rewards": [score.reward for score in scores]}
    first_bad = next((score for score in scores if score.reward != 1.0), None)
    if first_bad is not None:
        evidence |= {"why": first_bad.why, "log": first_bad.log_tail}
        evidence |= {"mismatch": asdict(first_bad.mismatch)} if first_bad.mismatch else {}
    return GateResult(gate=Gate.GOLD, passed=passed, detail=f"{good} of {len(scores)} score 1", evidence=evidence)
