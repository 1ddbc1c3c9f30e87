"""What a source yields: one issue with its fixing change, as raw as it came, self-contained and append-only."""

from datetime import datetime
from enum import StrEnum

from envfarm.core import digest
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest


class SourceKind(StrEnum):
    """Where a record came from."""

    GITHUB = "github"
    GIT = "git"
    RELEASES = "releases"
    STACKEXCHANGE = "stackexchange"


class Comment(Frozen):
    """A remark in an issue's thread."""

    author: str = ""
    body: str
    created_at: datetime | None = None


class SourceRecord(Frozen):
    """An issue and the change that fixed it. `patch` makes the record self-contained: the rest of the way to a candidate is pure."""

    kind: SourceKind
    url: str
    """Where a person finds it: the issue's, the commit's or the release's page, or a path where there is no page."""
    repository: str
    """What `git clone` takes: a path or an address. Sources without git make a repository of their own."""
    name: str
    """The project's name for people, as `owner/name` or a package's name."""
    title: str
    body: str
    """The issue's text, or the commit's message, or the changelog's section."""
    body_is_issue: bool
    """False where no issue is known and the text describes the change instead (a commit's message)."""
    comments: tuple[Comment, ...] = ()
    licence: str | None = None
    """An SPDX expression, where known."""
    author: str = ""
    created_at: datetime
    """When the fix came to be: the time machine's date."""
    base_commit: str
    fix_commit: str
    patch: str
    """The unified diff from base to fix, git format, binary hunks included, decoded with surrogateescape."""

    @property
    def digest(self) -> Digest:
        """The record's identity: its URL and its content."""
        return digest.of_noun(self)
