"""The tree of a commit in a (bare) repository on disk, read by the git program. Made by the pipeline; never checks anything out."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from envfarm.core.errors import SourceError

MAX_FILE_BYTES = 4 << 20
GIT_TIMEOUT_S = 120
RELEASE_TAG = re.compile(r"^[A-Za-z_./-]*?(\d+(?:[._]\d+)*(?:(?:a|b|rc|\.post)\d+)?)$")
# A repository may be hostile: no hook, filter, pager, replacement object or file-system monitor of its own is ever started.
SAFE_OPTIONS = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "safe.directory=*",
    "--no-replace-objects",
    "--no-pager",
)


class GitTree:
    """The files of one commit. Listings and texts are kept once read."""

    def __init__(self, repository: Path, commit: str) -> None:
        if not re.fullmatch(r"[0-9a-fA-F]{7,64}", commit):
            raise SourceError(f"{commit!r} is not a commit hash")
        self._repository = repository
        self._commit = commit
        self._blobs: dict[str, str] | None = None
        self._texts: dict[str, str] = {}

    def paths(self) -> Sequence[str]:
        """Every regular file, sorted. Links and submodules are left out."""
        return sorted(self._listing())

    def read(self, path: str) -> str:
        """The file's text, or nothing for a file that is not there or is larger than 4 MiB."""
        blob = self._listing().get(path)
        if blob is None:
            return ""
        if path not in self._texts:
            data = _git(self._repository, "cat-file", "blob", blob)
            self._texts[path] = data.decode(errors="replace") if len(data) <= MAX_FILE_BYTES else ""
        return self._texts[path]

    def latest_release(self) -> str:
        """The newest release tag that is an ancestor of the commit, as a bare version; empty where there is none."""
        tags = _git(self._repository, "tag", "--merged", self._commit, "--sort=-creatordate").decode(errors="replace").split()
        for tag in tags:
            if match := RELEASE_TAG.match(tag):
                return match.group(1).replace("_", ".")
        return ""

    def _listing(self) -> dict[str, str]:
        if self._blobs is None:
            rows = _git(self._repository, "ls-tree", "-r", "-z", "--full-tree", self._commit).decode(errors="surrogateescape").split("\0")
            entries = (row.split("\t", 1) for row in rows if row)
            self._blobs = {path: meta.split()[2] for meta, path in entries if meta.startswith("100")}
        return self._blobs


def _git(repository: Path, *args: str) -> bytes:
    argv = ["git", *SAFE_OPTIONS, "-C", str(repository), *args]
    try:
        done = subprocess.run(argv, capture_output=True, check=False, timeout=GIT_TIMEOUT_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise SourceError(f"git {args[0]} in {repository}: {e}") from e
    if done.returncode:
        raise SourceError(f"git {args[0]} in {repository}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout
