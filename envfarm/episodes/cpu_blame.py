"""Decides who is to blame when a command timed out: the command, or the machine that gave its box too little CPU.

The measure is a lower bound of the time that a thread of the command waited behind programs of *other* boxes. While a thread waits for a
CPU, one of these holds:

- its own box keeps that CPU busy: for no longer than the CPU time that the box used;
- its box is throttled by its quota: for no longer than a box of `cpus` takes to be granted what it used;
- another program keeps that CPU busy, and the machine is to blame.

So others took at least `waited - used - used / cpus`, whatever the code under test does, however many processes it has and wherever they
run. For the quota a box of many CPUs counts as a box of one, since its processes may all wait on one CPU. A sleeping thread does not wait.
As a second bound, others took no more than the time in which the CPUs of the box were busy.
"""

from envfarm.core.errors import BoxLost
from envfarm.core.sandbox import Contention, ExecResult

STARVED_SHARE = 2 / 3
"""Of the elapsed time: then one thread got less than a ninth of a CPU. Limits are ten times the solution's time, so more would suffice."""


def taken_by_others_s(seen: Contention, *, cpus: float) -> float:
    """A lower bound of the time (s) that others kept a ready thread from running. `cpus` is what the box was granted."""
    own_s = seen.box_cpu_s + seen.box_cpu_s / min(cpus, 1.0)
    return max(0.0, min(seen.waited_s - own_s, seen.elapsed_s - seen.idle_s))


def blame(result: ExecResult, *, cpus: float) -> str:
    """For a command that timed out, figures on where its time went, as text; else, or without figures, the empty string.

    Raises `BoxLost`, which is retried, if the machine is to blame.
    """
    seen = result.contention
    if seen is None or not result.timed_out:
        return ""
    taken_s = taken_by_others_s(seen, cpus=cpus)
    figures = (
        f"in {seen.elapsed_s:.1f} s its box of {cpus:g} CPUs used {seen.box_cpu_s:.1f} s of CPU, "
        f"one of its threads waited {seen.waited_s:.1f} s for a CPU, and the CPUs that it was given were idle for {seen.idle_s:.1f} s"
    )
    if taken_s >= STARVED_SHARE * seen.elapsed_s:
        raise BoxLost(
            f"the machine starved a command that ran out of time: {figures}; programs outside the box took {taken_s:.1f} s",
            hint="run fewer boxes at once (ENVFARM_PARALLEL), or request the CPUs that boxes are granted (`cpu_requested` of pods)",
        )
    return figures
