"""The policy that knows the answer: it writes the task's own solution into the box and runs it, with the same tools as any agent.

It goes through the agent's shell on purpose, so that it can do only what an agent could.
"""

import base64
import shlex
from collections.abc import Iterator

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.task import Task
from envfarm.policies.scripted import Scripted

CHUNK_BYTES = 48_000
"""Bytes of a file per command. Encoded in base64 they are below Linux's limit of 128 KiB for a single argument."""

# Tasks of other formats expect /solution; if the agent's user cannot create it, a scratch directory is used.
_PLACE = 'S=/solution; mkdir -p "$S" 2>/dev/null && [ -w "$S" ] || S=/tmp/solution'


def gold(task: Task) -> Scripted:
    """A policy that writes `solution/`, runs `solve.sh` in the work dir, removes the files, and finishes."""
    return Scripted(tuple(_actions(task)))


def _actions(task: Task) -> Iterator[Action]:
    for name, content in sorted(task.solution.items()):
        path = f'"$S"/{shlex.quote(name)}'
        for at in range(0, max(len(content), 1), CHUNK_BYTES):
            chunk = base64.b64encode(content[at : at + CHUNK_BYTES]).decode()
            mark = ">>" if at else ">"
            yield Bash(command=f'{_PLACE}; mkdir -p "$(dirname {path})" && printf %s {shlex.quote(chunk)} | base64 -d {mark}{path}')
    # In a separate shell: an `exit` in solve.sh must not end the agent's shell.
    shell = '"$(command -v bash || echo sh)"'
    work_dir = shlex.quote(task.plan.work_dir)
    run = f'{_PLACE}; cd {work_dir} && {shell} "$S"/solve.sh; status=$?; rm -rf "$S"; (exit $status)'
    yield Bash(command=run, timeout_s=task.limits.agent_s)
    yield Finish(message="the task's own solution was run")
