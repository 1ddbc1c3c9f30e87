"""One repository: its commits, trees and diffs, read by the git program. Called by every source that has or makes a repository.

The repository is a stranger's: no external diff or text conversion of its own is run. Must not know what the commits are wanted for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from envfarm.core.errors import SourceError
from envfarm.images.checkout import files_checked_out
from envfarm.images.git_program import Git

COMMITS_AT_ONCE = 200
"""Commits whose paths are asked for in one call: few calls, and a draw of the newest need not read the whole history."""


class NoSuchCommit(SourceError):  # noqa: N818 - a state of the repository, as in `NotFound`
    """Git says that the repository has no such commit."""


class Touched(NamedTuple):
    """A commit and the paths that it adds, changes or deletes (a rename counts as both)."""

    commit: str
    paths: tuple[str, ...]


class Dated(NamedTuple):
    """A commit and its committer's clock, in seconds since 1970."""

    commit: str
    seconds: int


class CommitText(NamedTuple):
    """What a commit says of itself."""

    commit: str
    parents: tuple[str, ...]
    author: str
    committed_at: datetime
    message: str


@dataclass(frozen=True, slots=True)
class GitRepository(Git):
    """A repository on this machine, bare or not. Reads only, save what `run` is told to do."""

    def check(self) -> None:
        """Refuse what history cannot be read from.

        Raises:
            SourceError: no such directory, no repository or only a part of one, without a commit, cut off (shallow), with SHA-256 names.
        """
        if not self.path.is_dir():
            raise SourceError(f"`{self.path}`: no such repository", hint="give a directory with a git repository, or an address")
        try:
            said = self.run("rev-parse", "--is-shallow-repository", "--show-object-format", "--absolute-git-dir", "--show-prefix")
        except SourceError as e:
            raise SourceError(f"`{self.path}`: not a git repository", hint="`git init` never ran there, or HEAD is missing") from e
        shallow, names, directory, inside = said.decode(errors="surrogateescape").split("\n")[:4]
        if inside or (not (self.path / ".git").exists() and Path(directory) != self.path.resolve()):
            # Git looks upwards for a repository: this one is another's, and not what was asked for.
            raise SourceError(
                f"`{self.path}`: not a git repository, but inside one: `{directory}`", hint="give the repository's own directory"
            )
        if names != "sha1":
            raise SourceError(f"`{self.path}`: its objects are named by {names}", hint="only repositories with SHA-1 names can be read")
        if shallow == "true":
            raise SourceError(f"`{self.path}`: a shallow clone, its history is cut off", hint="run `git fetch --unshallow` there")

    def resolve(self, revision: str) -> str:
        """The full hash of a commit.

        Raises:
            NoSuchCommit: there is none.
            SourceError: git failed.
        """
        if "\n" not in revision:
            asked = f"{revision}^{{commit}}\n".encode(errors="surrogateescape")
            found = self.run("cat-file", "--batch-check", stdin=asked).split()
            if found[1:2] == [b"commit"]:
                return found[0].decode()
        raise NoSuchCommit(f"`{self.path}`: no such commit: `{revision}`", hint="check the spelling; fetch the branch that has it")

    def commits(self, revisions: str = "HEAD") -> list[Dated]:
        """Non-merge commits, newest first as `git log` has them. `revisions` is one revision or a range `A..B`."""
        out = self.run("rev-list", "--no-merges", "--timestamp", "--end-of-options", revisions, "--").decode()
        return [Dated(commit, int(seconds)) for seconds, commit in (line.split() for line in out.splitlines())]

    def touched(self, commits: Sequence[str]) -> Iterator[Touched]:
        """The paths of each commit, in the order given; lazily, some hundred commits at a time."""
        for start in range(0, len(commits), COMMITS_AT_ONCE):
            batch = commits[start : start + COMMITS_AT_ONCE]
            listing = self.run(
                "diff-tree", "--stdin", "--root", "-r", "-m", "--first-parent", "--raw", "-z", "--no-renames",
                stdin="".join(c + "\n" for c in batch).encode(),
            )  # fmt: skip
            found = _parse_raw(listing)
            yield from (Touched(c, tuple(found.get(c, ()))) for c in batch)

    def text_of(self, commit: str) -> CommitText:
        """A commit's message, author and date."""
        out = self.run("log", "-1", "--no-show-signature", "--encoding=UTF-8", "--format=%H%x00%P%x00%an%x00%cI%x00%B", commit, "--")
        found, parents, author, committed, message = out.decode(errors="replace").split("\0", 4)
        return CommitText(found, tuple(parents.split()), author, datetime.fromisoformat(committed), message.strip("\n"))

    def patch(self, base: str, fix: str) -> str:
        """The unified diff from base to fix, binary hunks included, decoded with surrogateescape."""
        out = self.run("diff", "--no-color", "--no-ext-diff", "--no-textconv", "--binary", "--full-index", base, fix, "--")
        return out.decode(errors="surrogateescape")

    def paths_between(self, base: str, fix: str) -> tuple[str, ...]:
        """The paths that differ between two commits; a rename counts as both of its names."""
        out = self.run("diff-tree", "-r", "-z", "--name-only", "--no-renames", base, fix, "--")
        return tuple(p.decode(errors="surrogateescape") for p in out.split(b"\0") if p)

    def subjects(self, revisions: str, count: int) -> tuple[str, ...]:
        """The first lines of the newest `count` commits of a revision or range."""
        out = self.run("log", f"-{count}", "--format=%s", "--end-of-options", revisions, "--")
        return tuple(out.decode(errors="replace").splitlines())

    def read(self, commit: str, path: str) -> bytes | None:
        """A file's content at a commit, a link's target; None where git's own listing has neither. Raises `SourceError` if git failed."""
        try:
            return self.run("cat-file", "blob", f"{commit}:{path}")
        except SourceError:
            listed = self.run("ls-tree", "-z", "--full-tree", commit, "--", path, env={"GIT_LITERAL_PATHSPECS": "1"})
            if b" blob " in listed:
                raise
            return None

    def checked_out(self, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
        """The contents of files of a commit as git checks them out (line ends, encodings), where `read` has them as they are stored."""
        return files_checked_out(self.path, commit, paths)

    def modes(self, commit: str) -> dict[str, int]:
        """The mode of each file and link of a commit: 0o100644, 0o100755 or 0o120000."""
        out = self.run("ls-tree", "-r", "-z", "--full-tree", commit)
        rows = (row.split(b"\t", 1) for row in out.split(b"\0") if row)
        return {name.decode(errors="surrogateescape"): int(meta.split()[0], 8) for meta, name in rows if b" blob " in meta}

    def root_files(self, commit: str) -> tuple[str, ...]:
        """Names of the files at the top of a commit's tree."""
        out = self.run("ls-tree", "-z", "--full-tree", commit)
        rows = (row.split(b"\t", 1) for row in out.split(b"\0") if row)
        return tuple(name.decode(errors="surrogateescape") for meta, name in rows if b" blob " in meta)


def _parse_raw(listing: bytes) -> dict[str, list[str]]:
    """`diff-tree --stdin --raw -z`: a commit's hash, then for each file `:modes hashes status` and its path."""
    found: dict[str, list[str]] = {}
    paths: list[str] = []
    fields = iter(listing.split(b"\0"))
    for field in fields:
        if field.startswith(b":"):
            paths.append(next(fields).decode(errors="surrogateescape"))
        elif field:
            paths = found.setdefault(field.decode().strip(), [])
    return found
