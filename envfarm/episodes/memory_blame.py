"""Whose fault it is that a command was killed for want of memory: the box's, that held too much, or the machine's, that promised too much.

Called by `envfarm.episodes.grading_box`. Code under test can kill itself, so that only counters from outside the box count, and only a
rise while the command ran.
"""

import signal

from envfarm.core.errors import BoxLost
from envfarm.core.protocols import Box, TellsMemoryKills
from envfarm.core.sandbox import ExecRequest, ExecResult, MemoryKills

SHELLS_WORD_FOR_SIGKILL = 128 + signal.SIGKILL


async def run_witnessed(box: Box, request: ExecRequest) -> ExecResult:
    """Run a command. Where the kernel killed it because the box was at its limit, the result says so (`limit_hit`).

    Raises `BoxLost`, which is retried, where the machine had no memory left for a box that kept to its limit; and what the box raises.
    """
    before = box.memory_kills() if isinstance(box, TellsMemoryKills) else MemoryKills()
    result = await box.exec(request)
    killed = result.signal == signal.SIGKILL or result.exit_code == SHELLS_WORD_FOR_SIGKILL
    if not killed or result.timed_out or result.limit_hit or not isinstance(box, TellsMemoryKills):
        return result
    after = box.memory_kills()
    if after.killed <= before.killed:
        return result
    if after.own_limit > before.own_limit or after.filled or result.max_rss_bytes > after.limit_bytes:
        return result.model_copy(update={"limit_hit": "memory"})
    seen = "this machine" if after.shared else "its group"
    raise BoxLost(
        f"the machine ran out of memory and killed a box's command: the kernel counted {after.killed - before.killed} such kills in {seen} "
        f"while it ran, and the box had not reached its own limit of {after.limit_bytes >> 20} MiB",
        hint="run fewer boxes at once (ENVFARM_PARALLEL), or give the machine more memory",
    )
