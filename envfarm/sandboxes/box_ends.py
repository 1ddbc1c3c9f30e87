"""Decides who ended a box's boxd, from what the kernel says outside the box. Pure.

boxd is the box's first process, and the box ends with it. Two things are trusted, since no box can forge them: how boxd ended, as its
parent saw it, and the counters of the box's memory group. SIGKILL means that something outside sent it: nothing in a box can, since boxd
is the first process of a pid namespace, and no process in the box can set its limits (`local_seccomp`, or an agent with another uid).
"""

import signal

from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError
from envfarm.core.sandbox import MemoryKills

STATUS_OF_SIGKILL = 128 + signal.SIGKILL
"""The exit status by which bubblewrap and Docker, like shells, report that their program was killed."""


def why_ended(status: int, kills: MemoryKills) -> EnvfarmError:
    """The error for a box that ended. `kills` are its counters at that time; counters shared with other boxes are ignored.

    `status` is boxd's exit status; a negative one is the signal that ended the process outside the box that watches over boxd.
    """
    if status < 0:
        return BoxLost(f"its watching process was ended from outside (signal {-status})")
    starved = kills.killed > 0 and not kills.shared
    if starved and (kills.own_limit > 0 or kills.filled):
        return BoxBroken(
            f"boxd ended ({status}) after the kernel had killed processes at the box's own memory limit of {kills.limit_bytes >> 20} MiB"
        )
    if starved:
        hint = "run fewer boxes at once (ENVFARM_PARALLEL), or give the machine more memory"
        return BoxLost("the machine ran out of memory, and the kernel killed processes of a box that was within its limit", hint=hint)
    if status == STATUS_OF_SIGKILL:
        return BoxLost("its first process was killed from outside")
    return BoxBroken(f"boxd ended with status {status}, and nothing outside the box had ended it")
