"""Grading the same change several times over, through the real grader. Called by the gates gold and nop."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from envfarm.core.change import Change
from envfarm.core.errors import GraderError
from envfarm.core.frozen import Frozen
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.task import Task
from envfarm.grading.integrity import IN_TIME
from task_builders.concurrency import all_of
from task_builders.validation.bench import Bench

RETRY_S = (1.0, 10.0)
"""Waits before a grading is tried again: a candidate's minutes of work are not given up for one box that did not start."""


class Score(Frozen):
    """One grading."""

    reward: float
    why: str
    seconds: float
    log_tail: str = ""
    timed_out: bool = False
    """Whether a command was killed at its time limit."""


async def grade_once(bench: Bench, task: Task, change: Change, *, brief: bool = False, retry_s: Sequence[float] = RETRY_S) -> Score:
    """Grade in a fresh box, with a brief grader where the reward is all that counts; again where the infrastructure failed for a moment.

    Raises `GraderError` where it goes on failing: that is no score.
    """
    waits = iter(retry_s)
    while True:
        async with bench.boxes:
            outcome = await bench.grader(brief=brief).grade(task, change, environment=bench.environment)
        wait_s = next(waits, None)
        if wait_s is None or not isinstance(outcome, Invalid) or not outcome.retryable:
            return score_of(outcome)
        await asyncio.sleep(wait_s)


def score_of(outcome: Outcome) -> Score:
    """The score in an outcome. Raises `GraderError` for one that is none."""
    if isinstance(outcome, Scored):
        report = outcome.report
        late = any(finding.check == IN_TIME and not finding.ok for finding in outcome.integrity.findings)
        tail = report.log_tail[-2000:]
        return Score(reward=outcome.reward, why=outcome.why, seconds=report.duration_s, log_tail=tail, timed_out=late)
    detail = outcome.detail if isinstance(outcome, Invalid) else outcome.kind
    raise GraderError(f"a grading came to nothing: {detail}")


async def several(repeats: int, once: Callable[[], Coroutine[None, None, Score]]) -> tuple[Score, ...]:
    """The same, `repeats` times at once (the bench bounds the boxes). The first is awaited alone: a bad one saves the rest."""
    first = await once()
    return (first, *await all_of(once() for _ in range(repeats - 1)))
