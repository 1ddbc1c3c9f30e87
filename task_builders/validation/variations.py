"""How the repeats of a run differ on purpose, and in which order they are made. Pure; used by the gate of the three states.

What makes a test flip is seldom chance: it is the hash seed, the number of cores, the locale, the time zone, or what ran before. So the
repeats differ in these, and a test that minds is found by few repeats. The clock is not shifted: a box shares its kernel's.
"""

from typing import get_args

from envfarm.core.plan import TestPlan
from envfarm.core.validation import State
from envfarm.episodes.grader import Variation

STATES: tuple[State, ...] = get_args(State)
LOCALES = ("C.UTF-8", "C.UTF-8", "C", "C.UTF-8", "POSIX")
# POSIX rules and not names, so that the box needs no zone files. The last has neither whole hours nor whole half hours.
TIME_ZONES = ("UTC0", "EST5EDT,M3.2.0,M11.1.0", "<+14>-14", "CET-1CEST,M3.5.0,M10.5.0", "<+0545>-5:45")
CLOCK = "not shifted"


def variation(repeat: int, cores: tuple[int, ...] = ()) -> Variation:
    """The conditions of a repeat; 0 is as the grader runs it. `cores` are the CPUs that there are."""
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
    """A variation for the report. Only what the plan's commands name can be shuffled: a folder's files are in the runner's order."""
    cores = ",".join(map(str, chosen.cores)) or "all"
    can_be = any(len(set(command.argv) & set(plan.test_files)) > 1 for command in plan.commands)
    files = f"shuffled by {chosen.order_seed}" if can_be and chosen.order_seed is not None else "as planned"
    return {**chosen.env, "cores": cores, "order of files": files, "clock": CLOCK}


def order_of_states(repeat: int) -> tuple[State, ...]:
    """The states in the order in which a repeat goes through them: each of them is first in turn."""
    turn = repeat % len(STATES)
    rotated = STATES[turn:] + STATES[:turn]
    return rotated if repeat % 2 == 0 else tuple(reversed(rotated))
