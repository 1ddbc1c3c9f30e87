"""Runs the suite N times in each of the three states, in fresh offline boxes, and has the results judged."""

from collections.abc import Callable, Mapping, Sequence

from envfarm.core.change import Change
from envfarm.core.frozen import Frozen
from envfarm.core.task import Task
from envfarm.core.validation import State, StateRun
from task_builders.concurrency import all_of
from task_builders.validation import scoring, states
from task_builders.validation.bench import Bench, Progress, silent
from task_builders.validation.repeat_conditions import order_of_states, record, variation
from task_builders.validation.states import Verdict

LOG_CHARS = 4000


class Measured(Frozen):
    """All runs and the verdict on them."""

    runs: tuple[StateRun, ...]
    verdict: Verdict

    @property
    def slowest_s(self) -> float:
        """The longest duration of the suite with the fix."""
        return max((run.seconds for run in self.runs if run.state == states.WITH_FIX), default=0.0)


async def first_round(
    bench: Bench, task: Task, gold: Change, *, is_test: Callable[[str], bool] = states.every, progress: Progress = silent
) -> Measured:
    """Run each state once. `task` need not expect any tests yet; `is_test` is that of `states.decide`.

    Raises what boxes raise: an infrastructure failure is no verdict.
    """
    progress("three states, once each")
    return _judged(task, is_test, await _round(bench, dict.fromkeys(states.ORDER, task), gold, [0]))


async def other_rounds(
    bench: Bench,
    task: Task,
    gold: Change,
    first: Measured,
    *,
    repeats: int,
    is_test: Callable[[str], bool] = states.every,
    progress: Progress = silent,
) -> Measured:
    """Run the other repeats of each state and judge them together with the first. Few candidates survive the first round to get here.

    A state that ran out of time in the first round gets less in these.
    """
    if repeats <= 1:
        return first
    progress(f"three states, {repeats - 1} more times each")
    brief = scoring.after_a_hang(task, first.slowest_s)
    tasks = {run.state: brief if run.timed_out else task for run in first.runs}
    return _judged(task, is_test, [*first.runs, *await _round(bench, tasks, gold, range(1, repeats))])


def _judged(task: Task, is_test: Callable[[str], bool], runs: Sequence[StateRun]) -> Measured:
    verdict = states.decide(runs, sealed_files=frozenset(task.plan.test_files), is_test=is_test)
    return Measured(runs=tuple(runs), verdict=verdict)


async def _round(bench: Bench, tasks: Mapping[State, Task], gold: Change, repeats: Sequence[int]) -> list[StateRun]:
    return await all_of(_run(bench, tasks[state], gold, state, n) for n in repeats for state in order_of_states(n))


async def _run(bench: Bench, task: Task, gold: Change, state: State, repeat: int) -> StateRun:
    chosen = variation(repeat, bench.cores)
    change = gold if state == states.WITH_FIX else Change()
    async with bench.boxes:
        seen = await bench.grader().run_plan(task, change, environment=bench.environment, with_tests=state != states.BASE, variation=chosen)
    return StateRun(
        state=state,
        repeat=repeat,
        variation=record(chosen, task.plan),
        statuses=seen.statuses,
        exit_codes=seen.exit_codes,
        seconds=seen.seconds,
        timed_out=seen.timed_out,
        log_tail="\n".join([*seen.notes, seen.log_tail[-LOG_CHARS:]]),
    )
