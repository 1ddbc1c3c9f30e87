"""The tree of a commit in a (bare) repository on disk, read by the git program. Made by the pipeline; never checks anything out."""

import re
from collections.abc import Iterator, Mapping, Sequence

from envfarm.core.errors import SourceError
from envfarm.images.git_program import Git

MAX_FILE_BYTES = 4 << 20
RELEASE_TAG = re.compile(r"^[A-Za-z_./-]*?(\d+(?:[._]\d+)*(?:(?:a|b|rc|\.post)\d+)?)$")


class GitTree:
    """The files of one commit. Listings and texts are kept once read."""

    def __init__(self, repository: Git, commit: str) -> None:
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
        return self.read_all([path]).get(path, "")

    def read_all(self, paths: Sequence[str]) -> Mapping[str, str]:
        """The texts of those files that are there, by one run of git."""
        blobs = {p: blob for p in paths if (blob := self._listing().get(p)) is not None}
        missing = {p: blob for p, blob in blobs.items() if p not in self._texts}
        if missing:
            answer = self._repository.run("cat-file", "--batch", stdin="".join(f"{b}\n" for b in missing.values()).encode())
            self._texts.update(zip(missing, _texts(answer), strict=True))
        return {p: self._texts[p] for p in blobs}

    def latest_release(self) -> str:
        """The newest release tag that is an ancestor of the commit, as a bare version; empty where there is none."""
        tags = self._repository.run("tag", "--merged", self._commit, "--sort=-creatordate").decode(errors="replace").split()
        for tag in tags:
            if match := RELEASE_TAG.match(tag):
                return match.group(1).replace("_", ".")
        return ""

    def _listing(self) -> dict[str, str]:
        if self._blobs is None:
            rows = self._repository.run("ls-tree", "-r", "-z", "--full-tree", self._commit).decode(errors="surrogateescape").split("\0")
            entries = (row.split("\t", 1) for row in rows if row)
            self._blobs = {path: meta.split()[2] for meta, path in entries if meta.startswith("100")}
        return self._blobs


def _texts(answer: bytes) -> Iterator[str]:
    """The contents that `cat-file --batch` printed, in order: a line with the size, the bytes, a line end."""
    at = 0
    while at < len(answer):
        end = answer.index(b"\n", at)
        name, *kind_and_size = answer[at:end].decode().split()
        if len(kind_and_size) == 1:
            raise SourceError(f"the repository lacks the object {name}", hint="is it a partial clone? Fetch it whole")
        size = int(kind_and_size[-1])
        content = answer[end + 1 : end + 1 + size]
        yield content.decode(errors="replace") if size <= MAX_FILE_BYTES else ""
        at = end + 1 + size + 1
