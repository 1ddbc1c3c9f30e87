"""A project at one commit, as language profiles see it: its files, its name, its latest release. No I/O of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class ProjectTree(Protocol):
    """A read-only view of the files of one commit."""

    def paths(self) -> Sequence[str]:
        """Every regular file, relative to the project's root, sorted."""
        ...

    def read(self, path: str) -> str:
        """The file's text (undecodable bytes replaced), or an empty string if it does not exist."""
        ...

    def read_all(self, paths: Sequence[str]) -> Mapping[str, str]:
        """The texts of many files at once, by path; missing files are left out."""
        ...


@dataclass(frozen=True)
class Project:
    """What a profile decides about."""

    repository: str
    """The repository's name. It is the key for what is remembered of it; no decision may depend on it."""
    tree: ProjectTree = field(repr=False)
    latest_release: str = ""
    """The newest release tag that is an ancestor of the commit, without a leading `v`; empty if there is none."""
