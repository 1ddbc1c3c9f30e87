"""The policy that applies a given diff and finishes, so that a change made elsewhere is graded like an agent's.

Like `gold`, it uses the agent's own shell, so a patch can change only what an agent could.
"""

import base64
import shlex
from collections.abc import Iterator

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.task import Task
from envfarm.policies.gold import CHUNK_BYTES
from envfarm.policies.scripted import Scripted

APPLIES = "envfarm-patch-status"
"""Part of the command whose exit status tells whether the patch applied."""
_FILE = "/tmp/.envfarm-patch"  # noqa: S108 - in the box, and removed at the end


def patch(task: Task, diff: str) -> Scripted:
    """A policy that writes the diff, applies it completely or not at all from the work dir, removes the file, and finishes."""
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
    yield Finish(message="the patch was tried")
