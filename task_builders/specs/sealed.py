"""The sealed test files of a task, as of the fix. Reads one repository, writes nothing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

MAX_SEALED_BYTES = 64 << 20
"""Total size of a task's sealed files; more is a data set, not a test."""


EXECUTABLE, LINK = 0o100755, 0o120000
"""Git's modes of executables and links."""


class Tree(Protocol):
    """Source of the files of a commit."""

    def checked_out(self, commit: str, paths: Sequence[str]) -> Mapping[str, bytes]:
        """The contents of a commit's files as git checks them out; of links, the target."""
        ...

    def modes(self, commit: str) -> Mapping[str, int]:
        """The git mode of each file and link of a commit."""
        ...


class SealedFiles(NamedTuple):
    """The files that are put back before the tests run, and those that the fix's test part deletes."""

    files: dict[str, bytes]
    """A link's content is its target."""
    removed: tuple[str, ...]
    executable: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()

    @property
    def tests(self) -> dict[str, bytes]:
        """The files as in the task's `tests`."""
        return {f"files/{path}": data for path, data in sorted(self.files.items())}


def sealed_files(tree: Tree, commit: str, paths: Sequence[str], removed: Iterable[str] = ()) -> SealedFiles:
    """Read the test part's files at the fix. A path that no longer exists counts as removed. Raises `ValueError` above 64 MiB."""
    modes = tree.modes(commit)
    files = dict(tree.checked_out(commit, [path for path in paths if path in modes]))
    if sum(map(len, files.values())) > MAX_SEALED_BYTES:
        raise ValueError(f"the tests' files are larger than {MAX_SEALED_BYTES >> 20} MiB")
    return SealedFiles(
        files,
        removed=tuple(sorted({*removed, *paths} - set(files))),
        executable=tuple(path for path in sorted(files) if modes[path] == EXECUTABLE),
        linked=tuple(path for path in sorted(files) if modes[path] == LINK),
    )
