"""How the repeats of a run deliberately differ, and in which order the states run. Pure.

Tests are rarely flaky by pure chance: the cause is the hash seed, the number of cores, the locale, the time zone, or what ran before. Since
the repeats vary these, few repeats find a sensitive test. The clock is not shifted: a box shares its kernel's.
"""

from typing import get_args

from envfarm.core.plan import TestPlan
from envfarm.core.validation import State
from envfarm.episodes.grader import Variation

STATES: tuple[State, ...] = get_args(State)
LOCALES = ("C.UTF-8", "C.UTF-8", "C", "C.UTF-8", "POSIX")
# POSIX rules instead of names, so that the box needs no zone files. The last offset is neither in whole hours nor in half hours.
TIME_ZONES = ("UTC0", "EST5EDT,M3.2.0,M11.1.0", "<+14>-14", "CET-1CEST,M3.5.0,M10.5.0", "<+0545>-5:45")
CLOCK = "not shifted"


def variation(repeat: int, cores: tuple[int, ...] = ()) -> Variation:
    """The conditions of a repeat; repeat 0 runs as the grader does. `cores` are the available CPUs."""
    if repeat == 0:
        return Variation()
    env = {
        "PYTHONHASHSEED": str(repeat * 1000003 % 4294967295),
        "LC_ALL": LOCALES[repeat % len(LOCALES)],
        "TZ": TIME_ZONES[repeat % len(TIME_ZONES)],
    }
    one_core = repeat % 2 == 1 and bool(cores)
    return Variation(env=env, cores=(cores[repeat // 2 % len(cores)],) if one_core else (), order_seed=repeat)


def record(chosen: Variation, plan: TestPlan) -> dict[str, str]:
    """A variation for the report. Only files named in the plan's commands can be shuffled; the runner orders those of a directory."""
    cores = ",".join(map(str, chosen.cores)) or "all"
    can_be = any(len(set(command.argv) & set(plan.test_files)) > 1 for command in plan.commands)
    files = f"shuffled by {chosen.order_seed}" if can_be and chosen.order_seed is not None else "as planned"
    return {**chosen.env, "cores": cores, "order of files": files, "clock": CLOCK}


def order_of_states(repeat: int) -> tuple[State, ...]:
    """The order of the states in a repeat. Over the repeats, each state comes first in turn."""
    turn = repeat % len(STATES)
    rotated = STATES[turn:] + STATES[:turn]
    return rotated if repeat % 2 == 0 else tuple(reversed(rotated))
