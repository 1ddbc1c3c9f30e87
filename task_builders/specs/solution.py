"""The task's own solution: a script that applies the fix's source part. Pure."""

PATCH = "patch.diff"
SCRIPT = "solve.sh"

SOLVE = """\
#!/bin/sh
# Applies the reference solution to the work dir that it is started in.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
if command -v git >/dev/null 2>&1 && git -c safe.directory='*' apply --whitespace=nowarn "$here/patch.diff"; then
  exit 0
fi
# Where git is missing or minds something that patch does not.
patch -p1 --forward --batch --no-backup-if-mismatch < "$here/patch.diff"
"""


def solution_files(source_patch: str) -> dict[str, bytes]:
    """The files under `solution/`. Encodes the patch with surrogateescape, which restores bytes that are not UTF-8."""
    return {SCRIPT: SOLVE.encode(), PATCH: source_patch.encode(errors="surrogateescape")}
