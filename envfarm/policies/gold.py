"""The policy that knows the answer: it writes the task's own solution into the box and runs it, by the same tools as any agent.

Used by validation and for trying a farm out. It goes through the agent's shell on purpose: what the agent could not do, gold cannot.
"""

import base64
import shlex
from collections.abc import Iterator

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.task import Task
from envfarm.policies.scripted import Scripted

CHUNK_BYTES = 48_000
"""Of a file per command: with base64 it stays below the 128 KiB that Linux gives a single argument."""

# Tasks of other formats expect /solution; where the agent's user cannot make it, a scratch directory does.
_PLACE = 'S=/solution; mkdir -p "$S" 2>/dev/null && [ -w "$S" ] || S=/tmp/solution'


def gold(task: Task) -> Scripted:
    """Writes `solution/`, runs `solve.sh` in the work dir, removes what it wrote, and finishes."""
    return Scripted(tuple(_actions(task)))


def _actions(task: Task) -> Iterator[Action]:
    for name, content in sorted(task.solution.items()):
        path = f'"$S"/{shlex.quote(name)}'
        yield Bash(command=f'{_PLACE}; mkdir -p "$(dirname {path})" && : >{path}')
        for at in range(0, len(content), CHUNK_BYTES):
            chunk = base64.b64encode(content[at : at + CHUNK_BYTES]).decode()
            yield Bash(command=f"{_PLACE}; printf %s {chunk} | base64 -d >>{path}")
    # A shell of its own: a solve.sh that ends with `exit` must not end the agent's.
    shell = '"$(command -v bash || echo sh)"'
    work_dir = shlex.quote(task.plan.work_dir)
    run = f'{_PLACE}; cd {work_dir} && {shell} "$S"/solve.sh; status=$?; rm -rf "$S"; (exit $status)'
    yield Bash(command=run, timeout_s=task.limits.agent_s)
    yield Finish(message="the task's own solution was run")
