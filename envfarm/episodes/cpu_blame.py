"""Whose fault it is that a command ran out of time: its own, or the machine's, that gave its box no CPU.

Called by whoever judges by what a command came to: `envfarm.episodes.grading_box`, and task builders. What counts is a lower bound of the
time that a thread of the command stood in the queue behind programs of *other* boxes. While a thread waits for a CPU,

- its own box keeps that CPU busy: no longer than all the CPU time that the box used; or
- its quota holds its box back: a box of `cpus` is held back for no longer than it takes such a box to be granted what it used; or
- somebody else keeps that CPU busy, and the machine is to blame.

So `waited - used - used / cpus` is what others took at the least, whatever the code under test does, how many processes it has and where it
has them run. A box of many CPUs counts as one of a single CPU there: it may have crowded its processes together. A thread that sleeps does
not wait. A second witness must agree: others took no more than the time in which the CPUs that the box was given were busy.
"""

from envfarm.core.errors import BoxLost
from envfarm.core.sandbox import Contention, ExecResult

STARVED_SHARE = 2 / 3
"""Of the command's time: one thread got less than a ninth of a CPU. As limits are ten times what a solution takes, more would have done."""


def taken_by_others_s(seen: Contention, *, cpus: float) -> float:
    """For how long, at the least, other boxes kept a thread that was ready to run from running; `cpus` is what the box was granted."""
    own_s = seen.box_cpu_s + seen.box_cpu_s / min(cpus, 1.0)
    return max(0.0, min(seen.waited_s - own_s, seen.elapsed_s - seen.idle_s))


def blame(result: ExecResult, *, cpus: float) -> str:
    """Where a command's time went that ran out of it, in words; empty for one that did not, and where nothing tells.

    Raises `BoxLost`, which is retried, where the machine is to blame.
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
