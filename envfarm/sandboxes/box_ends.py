"""Whose doing the end of a box's boxd was, from what the kernel says outside of the box. Pure; called by `local` and `docker`.

boxd is the box's first process, and the whole box ends with it. Believed are how it ended, as whoever started it saw it, and the counters
of the box's memory group: a box can forge neither. SIGKILL means that somebody outside sent it, as nothing in a box can: boxd is the first
process of a pid namespace, and nobody in it sets its limits (`local_seccomp`, or an agent with a uid of its own).
"""

import signal

from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError
from envfarm.core.sandbox import MemoryKills

WORD_FOR_SIGKILL = 128 + signal.SIGKILL
"""How bubblewrap and Docker say, as shells do, that what they ran was killed."""


def why_ended(status: int, kills: MemoryKills) -> EnvfarmError:
    """The error that a box's end is. `kills` are its counters then; those that are not the box's own tell nothing of it.

    `status` is boxd's exit status; less than 0 it is the signal that ended what watches over boxd from outside of the box.
    """
    if status < 0:
        return BoxLost(f"it was ended from outside of it (signal {-status})")
    starved = kills.killed > 0 and not kills.shared
    if starved and (kills.own_limit > 0 or kills.filled):
        return BoxBroken(
            f"boxd ended ({status}), and the kernel had killed at the box's own limit of {kills.limit_bytes >> 20} MiB of memory"
        )
    if starved:
        hint = "run fewer boxes at once (ENVFARM_PARALLEL), or give the machine more memory"
        return BoxLost("the machine ran out of memory, and the kernel killed in a box that kept to its limit", hint=hint)
    if status == WORD_FOR_SIGKILL:
        return BoxLost("its first process was killed from outside of it")
    return BoxBroken(f"boxd ended with status {status}, and nothing outside of the box ended it")
