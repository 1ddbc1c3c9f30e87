"""A project at one commit, as language profiles see it: files to read, its name, its latest release. No I/O of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class ProjectTree(Protocol):
    """A read-only view of the files of one commit."""

    def paths(self) -> Sequence[str]:
        """Every regular file, relative to the project's root, sorted."""
        ...

    def read(self, path: str) -> str:
        """The file's text (undecodable bytes replaced), or an empty string where there is no such file."""
        ...

    def read_all(self, paths: Sequence[str]) -> Mapping[str, str]:
        """The texts of many files at once, by path; what is not there is left out."""
        ...


@dataclass(frozen=True)
class Project:
    """What a profile is asked about."""

    repository: str
    """The repository's name: the key of what is remembered of it, never a condition."""
    tree: ProjectTree = field(repr=False)
    latest_release: str = ""
    """The newest release tag that is an ancestor of the commit, without a leading `v`; empty where there is none."""
