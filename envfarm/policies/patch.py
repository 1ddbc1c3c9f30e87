"""The policy that applies a given diff and finishes: how a change that was made elsewhere is graded like any agent's.

By the agent's own shell, like `gold`: what an agent could not change, a patch cannot either.
"""

import base64
import shlex
from collections.abc import Iterator

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.task import Task
from envfarm.policies.gold import CHUNK_BYTES
from envfarm.policies.scripted import Scripted

APPLIES = "envfarm-patch-status"
"""Stands in the one command whose exit status says whether the patch applied."""
_FILE = "/tmp/.envfarm-patch"  # noqa: S108 - in the box, and gone before the end


def patch(task: Task, diff: str) -> Scripted:
    """Writes the diff, applies all of it or nothing from the work dir, removes what it wrote, and finishes."""
    return Scripted(tuple(_actions(task, diff.encode(errors="surrogateescape"))))


def _actions(task: Task, diff: bytes) -> Iterator[Action]:
    if diff.strip():
        yield Bash(command=f": >{_FILE}")
        for at in range(0, len(diff), CHUNK_BYTES):
            yield Bash(command=f"printf %s {base64.b64encode(diff[at : at + CHUNK_BYTES]).decode()} | base64 -d >>{_FILE}")
        apply = f"git apply --whitespace=nowarn {_FILE}"
        without_git = f"patch -p1 --dry-run -i {_FILE} && patch -p1 --no-backup-if-mismatch -i {_FILE}"
        tools = f"if command -v git >/dev/null; then {apply}; else {without_git}; fi"
        yield Bash(command=f"cd {shlex.quote(task.plan.work_dir)} && {{ {tools}; }}; status=$?; rm -f {_FILE}; : {APPLIES}; (exit $status)")
    yield Finish(message="the patch was applied")
