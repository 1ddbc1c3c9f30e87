"""The cost of making and checking a task. Pure."""

from collections.abc import Sequence

from envfarm.core.image import BuildFacts
from envfarm.core.validation import Cost, StateRun
from task_builders.validation import states
from task_builders.validation.scoring import Score, limit_after_a_hang_s

CANARY_RUNS = 2
"""In which copies of tests are tried."""


def of_builds(facts: Sequence[BuildFacts]) -> Cost:
    """The builder's part: the seconds of every build, the bytes of the last one."""
    last = facts[-1]
    return Cost(
        build_s=round(sum(f.layer_s for f in facts if not f.layer_reused), 2),
        checkout_s=round(sum(f.checkout_s for f in facts if not f.checkout_reused), 2),
        layer_bytes=last.layer_bytes,
        checkout_bytes=last.checkout_bytes,
        layer_reused=all(f.layer_reused for f in facts),
    )


def of_gates(first: Sequence[StateRun], *, repeats: int, attacks: int, mutants: int) -> float:
    """About how many seconds of a box a candidate's gates take, given one run of each state.

    Each attack is played twice. Code that hung once gets less from then on.
    """
    solved_s = max((run.seconds for run in first if run.state == states.WITH_FIX), default=0.0)
    unsolved = [run for run in first if run.state == states.WITH_TESTS]
    whole_s = max((run.seconds for run in unsolved), default=0.0)
    unsolved_s = limit_after_a_hang_s(solved_s) if any(run.timed_out for run in unsolved) else whole_s
    again = (repeats - 1) * (2 * solved_s + unsolved_s)  # the state before both is as fast as the solution
    checked = (repeats + CANARY_RUNS) * solved_s + whole_s + (repeats - 1) * unsolved_s
    return again + checked + 2 * attacks * unsolved_s + mutants * solved_s


def with_checks(built: Cost, *, validate_s: float, gold: Sequence[Score]) -> Cost:
    """Add the duration of validation and the median duration of one grading of gold."""
    seconds = sorted(score.seconds for score in gold)
    verify_s = seconds[len(seconds) // 2] if seconds else 0.0
    return built.model_copy(update={"validate_s": round(validate_s, 2), "verify_s": round(verify_s, 2)})


def seconds(cost: Cost) -> float:
    """The total of all steps."""
    return cost.build_s + cost.checkout_s + cost.validate_s


def own_mib(cost: Cost) -> float:
    """Disk space of the task alone, in MiB; its layer is shared."""
    return cost.checkout_bytes / (1 << 20)
