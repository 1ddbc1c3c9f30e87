"""The sealed test files of a task, as they are at the fix. Called by the pipeline; reads one repository, writes nothing."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

MAX_SEALED_BYTES = 64 << 20
"""Of all sealed files of one task together: more is a data set, and no test."""


class Tree(Protocol):
    """Where files of a commit are read from."""

    def read(self, commit: str, path: str) -> bytes | None:
        """A file's content at a commit; None where there is no such file."""
        ...


class SealedFiles(NamedTuple):
    """What is put back before the tests run, and what the fix's tests part deletes."""

    files: dict[str, bytes]
    removed: tuple[str, ...]

    @property
    def tests(self) -> dict[str, bytes]:
        """As the task's `tests` has them."""
        return {f"files/{path}": data for path, data in sorted(self.files.items())}


def sealed_files(tree: Tree, commit: str, paths: Sequence[str], removed: Iterable[str] = ()) -> SealedFiles:
    """Read the test part's files at the fix. A path that is no longer there counts as removed. Raises `ValueError` above 64 MiB."""
    files: dict[str, bytes] = {}
    gone = set(removed)
    for path in paths:
        data = tree.read(commit, path)
        if data is None:
            gone.add(path)
        else:
            files[path] = data
    if sum(map(len, files.values())) > MAX_SEALED_BYTES:
        raise ValueError(f"the tests' files are larger than {MAX_SEALED_BYTES >> 20} MiB")
    return SealedFiles(files, tuple(sorted(gone - set(files))))
