"""An agent's change as text for people, stored at the end of a trajectory. It is never graded and never trusted.

It is made before the box is quiesced, by the box's own git, since only the box still has the original lines. If git fails, the change
itself is listed.
"""

import re

from envfarm.core.change import Change
from envfarm.core.errors import EnvfarmError
from envfarm.core.protocols import Sandbox
from envfarm.core.sandbox import ExecRequest
from envfarm.episodes.truncation import cut

TEXT_CHARS = 200_000
TIMEOUT_S = 30.0
_FILE = re.compile(r"^(?=diff --git )", re.MULTILINE)
_BINARY = re.compile(r"^Binary files .* differ$", re.MULTILINE)
"""Whole lines: those of contents begin with a space, a plus or a minus."""

# Git works on a second index and a second object store; only `diff` reads the real one. It would touch objects that it writes again, and
# the graded change must contain nothing of ours. New files are only noted (intent to add), so no content is stored anywhere.
_SCRIPT = r"""
set -e
objects=$(git rev-parse --git-path objects)
case $objects in /*) ;; *) objects=$PWD/$objects ;; esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/objects"
export GIT_INDEX_FILE="$scratch/index" GIT_OBJECT_DIRECTORY="$scratch/objects"
GIT_ALTERNATE_OBJECT_DIRECTORIES=$objects git read-tree HEAD
git ls-files -z --others --exclude-standard >"$scratch/new"
[ ! -s "$scratch/new" ] || git add --intent-to-add --pathspec-from-file="$scratch/new" --pathspec-file-nul
GIT_ALTERNATE_OBJECT_DIRECTORIES=$objects git --no-pager diff --no-color --no-ext-diff --no-textconv HEAD
"""
_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "core.fsmonitor",
    "GIT_CONFIG_VALUE_1": "false",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
}


async def git_diff(box: Sandbox, work_dir: str) -> str | None:
    """The difference of the work dir from its commit, with untracked files, as `git apply` takes it; None if the box's git fails.

    Binary files are named and left out.
    """
    request = ExecRequest(argv=("/bin/sh", "-c", _SCRIPT), cwd=work_dir, env=_ENV, timeout_s=TIMEOUT_S)
    try:
        result = await box.exec(request)
    except EnvfarmError:
        return None  # whether the box is lost is decided by later calls, which grading needs anyway
    return cut(without_binaries(result.stdout.decode(errors="replace")), TEXT_CHARS).text if result.ok else None


def without_binaries(diff: str) -> str:
    """A diff of git's without the headers of binary files, whose contents it does not have: `git apply` would refuse all of it."""
    return "".join(f"{said[0]}\n" if (said := _BINARY.search(file)) else file for file in _FILE.split(diff))


def listed(change: Change) -> str:
    """The change itself: new contents as added lines, and deleted paths. Of long contents only what is shown is decoded."""
    parts: list[str] = [f"deleted: /{_plain(path)}" for path in change.deleted]
    chars = sum(map(len, parts))
    for number, file in enumerate(change.files):
        if chars > TEXT_CHARS:
            parts.append(f"and {len(change.files) - number} files more")
            break
        name = _plain(file.path)
        if file.link is not None:
            parts.append(f"link: /{name} -> {_plain(file.link)}")
        elif file.content is None:
            parts.append(f"directory: /{name}")
        elif b"\0" in file.content[:8000]:
            parts.append(f"binary: /{name} ({len(file.content)} bytes)")
        else:
            lines = file.content[:TEXT_CHARS].decode(errors="replace").splitlines()
            more = [f"({len(file.content)} bytes)"] if len(file.content) > TEXT_CHARS else []
            parts.append("\n".join([f"now: /{name}", *(f"+{line}" for line in lines), *more]))
        chars += len(parts[-1])
    return cut("\n".join(parts), TEXT_CHARS).text


def _plain(name: str) -> str:
    """A name from a box without lone surrogates, which JSON cannot hold."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
