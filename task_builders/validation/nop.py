"""The nop gate: doing nothing scores 0 every time."""

from collections.abc import Sequence

from envfarm.core.candidate import Gate
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.concurrency import all_of
from task_builders.validation import agent_box, scoring
from task_builders.validation.bench import Bench
from task_builders.validation.scoring import Score


async def run(bench: Bench, task: Task, repeats: int, *, gold_s: float, narrow: Task | None = None) -> tuple[Score, ...]:
    """Grade an untouched box, `repeats` times. The first grading says which tests fail; of the others only the reward is wanted.

    The first runs the task's own command, whose order of files no other run without the fix has; the others run `narrow`, if there is one.
    If the first runs out of time, the others get less, by what the solution takes.
    """

    async def once(task: Task, *, brief: bool = True) -> Score:
        return await scoring.grade_once(bench, task, await agent_box.untouched(bench, task), brief=brief)

    first = await once(task, brief=False)
    other = narrow or task
    other = scoring.after_a_hang(other, gold_s) if first.timed_out else other
    return (first, *await all_of(once(other) for _ in range(repeats - 1)))


def judge(scores: Sequence[Score]) -> GateResult:
    """Every score must be 0."""
    good = sum(score.reward == 0.0 for score in scores)
    passed = bool(scores) and good == len(scores)
    evidence = {"rewards": [score.reward for score in scores], "why": scores[0].why if scores else ""}
    return GateResult(gate=Gate.NOP, passed=passed, detail=f"{good} of {len(scores)} score 0", evidence=evidence)
