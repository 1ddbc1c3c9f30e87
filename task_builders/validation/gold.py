"""The gold gate: the task's own solution, applied as an agent would, scores 1 every time."""

from collections.abc import Sequence
from typing import Any

from envfarm.core.candidate import Gate
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.validation import agent_box, scoring
from task_builders.validation.bench import Bench
from task_builders.validation.scoring import Score


async def run(bench: Bench, task: Task, repeats: int) -> tuple[Score, ...]:
    """Solve in an agent's box and grade in a fresh one, `repeats` times, each time from the start."""

    async def once() -> Score:
        left = await agent_box.solved(bench, task)
        score = await scoring.grade_once(bench, task, left.change)
        return score if left.exit_code == 0 else score.model_copy(update={"reward": 0.0, "why": f"solve.sh failed: {left.log[-500:]}"})

    return await scoring.several(repeats, once)


def judge(scores: Sequence[Score]) -> GateResult:
    """Every score must be 1."""
    good = sum(score.reward == 1.0 for score in scores)
    passed = bool(scores) and good == len(scores)
    evidence: dict[str, Any] = {"rewards": [score.reward for score in scores]}
    first_bad = next((score for score in scores if score.reward != 1.0), None)
    if first_bad is not None:
        evidence |= {"why": first_bad.why, "log": first_bad.log_tail}
    return GateResult(gate=Gate.GOLD, passed=passed, detail=f"{good} of {len(scores)} score 1", evidence=evidence)
