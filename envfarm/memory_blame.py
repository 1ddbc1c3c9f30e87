"""Decides who is to blame when a command was killed for lack of memory: the box, which exceeded its limit, or the overcommitted machine.

Asked by whoever runs others' code in a box: gradings, builds and set-ups. Code under test can kill itself, so only counters from outside
the box count, and only their increase while the command ran.
"""

import signal
from typing import Protocol

from envfarm.core.errors import BoxLost
from envfarm.core.protocols import TellsMemoryKills
from envfarm.core.sandbox import ExecRequest, ExecResult, MemoryKills

SHELL_STATUS_OF_SIGKILL = 128 + signal.SIGKILL


class Runs(Protocol):
    """The part of a box's interface that is used here."""

    async def exec(self, request: ExecRequest) -> ExecResult:
        """See `Sandbox`."""
        ...


async def run_witnessed(box: Runs, request: ExecRequest, *, children: bool = False) -> ExecResult:
    """Run a command. If the kernel killed it because the box was at its limit, the result says so (`limit_hit`).

    With `children` a command that failed in another way may have failed because a program of its own was killed: a compiler, say. Not for
    an agent's work, which could have a child killed to be tried again.

    Raises `BoxLost`, which is retried, if the machine had no memory left for a box within its limit; and what the box raises.
    """
    before = box.memory_kills() if isinstance(box, TellsMemoryKills) else MemoryKills()
    result = await box.exec(request)
    killed = result.signal == signal.SIGKILL or result.exit_code == SHELL_STATUS_OF_SIGKILL or (children and not result.ok)
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
