"""The tree of a commit that is given as data. For tests of what reads projects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MemoryTree:
    """Files and their texts."""

    files: Mapping[str, str]

    def paths(self) -> Sequence[str]:
        """Every file, sorted."""
        return sorted(self.files)

    def read(self, path: str) -> str:
        """The file's text, or nothing."""
        return self.files.get(path, "")

    def read_all(self, paths: Sequence[str]) -> Mapping[str, str]:
        """Those of the files that are there."""
        return {p: self.files[p] for p in paths if p in self.files}
