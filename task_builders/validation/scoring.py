"""Grades the same change several times with the real grader."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence

from envfarm.core.change import Change
from envfarm.core.errors import GraderError
from envfarm.core.frozen import Frozen
from envfarm.core.outcome import Invalid, Mismatch, Outcome, Scored
from envfarm.core.task import Task
from envfarm.grading.integrity import ALL, IN_TIME, Defence
from task_builders.concurrency import all_of
from task_builders.validation.bench import Bench

RETRY_S = (1.0, 10.0)
"""Waits before a grading is retried: one box that fails to start must not cost minutes of work on a candidate."""
SLOWER, MORE_S = 2.0, 10.0
"""Code that hung once gets so many times as long as the solution's slowest run took, and so much more: it hangs some eighty times, and a
suite of half a minute would take hours."""


class Score(Frozen):
    """The result of one grading."""

    reward: float
    why: str
    seconds: float
    log_tail: str = ""
    timed_out: bool = False
    """Whether a command was killed at its time limit."""
    mismatch: Mismatch | None = None
    unmet: tuple[str, ...] = ()
    """The expected tests that do not pass, if nothing else keeps the reward from being 1."""


def within(task: Task, seconds: float) -> Task:
    """The task with at most so much time for each box that it is graded in."""
    verifier_s = min(task.limits.verifier_s, seconds)
    return task.model_copy(update={"limits": task.limits.model_copy(update={"verifier_s": verifier_s})})


def after_a_hang(task: Task, gold_s: float) -> Task:
    """The task for further runs of code that ran out of time once: what took far longer than the solution's `gold_s` will not end."""
    return within(task, limit_after_a_hang_s(gold_s))


def limit_after_a_hang_s(gold_s: float) -> float:
    """See `after_a_hang`."""
    return SLOWER * gold_s + MORE_S


async def grade_once(
    bench: Bench,
    task: Task,
    change: Change,
    *,
    brief: bool = False,
    defences: Collection[Defence] = ALL,
    retry_s: Sequence[float] = RETRY_S,
) -> Score:
    """Grade in a fresh box and retry if the infrastructure fails. `brief`: use a grader that returns the reward and little else.

    Raises `GraderError` if it keeps failing, since that is no score.
    """
    waits = iter(retry_s)
    while True:
        async with bench.boxes:
            outcome = await bench.grader(defences, brief=brief).grade(task, change, environment=bench.environment)
        wait_s = next(waits, None)
        if wait_s is None or not isinstance(outcome, Invalid) or not outcome.retryable:
            return score_of(outcome)
        await asyncio.sleep(wait_s)


def score_of(outcome: Outcome) -> Score:
    """The score in an outcome. Raises `GraderError` if the outcome has none."""
    if isinstance(outcome, Scored):
        report = outcome.report
        late = any(finding.check == IN_TIME and not finding.ok for finding in outcome.integrity.findings)
        tail = report.log_tail[-2000:]
        expected = {**report.fail_to_pass, **report.pass_to_pass}
        unmet = tuple(test for test, passes in expected.items() if not passes) if outcome.integrity.ok else ()
        return Score(
            reward=outcome.reward,
            why=outcome.why,
            seconds=report.duration_s,
            log_tail=tail,
            timed_out=late,
            mismatch=report.mismatch,
            unmet=unmet,
        )
    detail = outcome.detail if isinstance(outcome, Invalid) else outcome.kind
    raise GraderError(f"a grading gave no score: {detail}")


async def several(repeats: int, once: Callable[[], Coroutine[None, None, Score]]) -> tuple[Score, ...]:
    """Grade `repeats` times, concurrently (the bench limits the boxes). The first runs alone: if it fails, the rest need not run."""
    first = await once()
    return (first, *await all_of(once() for _ in range(repeats - 1)))
