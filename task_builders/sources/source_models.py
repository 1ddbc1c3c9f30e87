"""What a sources file may say, as frozen models discriminated on `kind`. Read by `sources_file`, handed to the source of that kind.

A model says what a person wants; how it is had is the source's matter. Paths in a model are absolute already.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from envfarm.core.frozen import Frozen


def _day_or_time(value: Any) -> Any:
    """`2018-01-01` is that day's midnight in UTC, and so is a time without a zone: a draw must not depend on the machine's zone."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if hasattr(value, "isoformat") and hasattr(value, "year"):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value


Since = Annotated[AwareDatetime, BeforeValidator(_day_or_time)]
Count = Annotated[int, Field(gt=0, le=100_000, strict=True)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Revision = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, pattern=r"^[^-\s][^\s]*$")]
OwnerAndName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")]
SiteName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)+$")]
TagName = Annotated[str, StringConstraints(pattern=r"^[^\s<>|;]+$")]
WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$")]


class NewestCommits(Frozen):
    """The newest commits that touch source and tests, as `git log` orders them."""

    newest: Count


class SampledCommits(Frozen):
    """A draw from all commits that touch source and tests."""

    sample: Count
    seed: int = 0
    since: Since | None = None
    """By the committer's date; all of history where it is absent."""


class ListedCommits(Frozen):
    """These commits, in this order."""

    listed: tuple[Revision, ...] = Field(alias="list", min_length=1)


class RangeOfCommits(Frozen):
    """Every commit of `A..B`; `A..` ends at HEAD."""

    span: Annotated[str, StringConstraints(pattern=r"^[^-\s.][^\s]*?\.\.([^-\s.][^\s]*)?$")] = Field(alias="range")


COMMIT_CHOICES = ("newest", "sample", "list", "range")


def _choice(value: Any) -> str | None:
    given = [k for k in COMMIT_CHOICES if isinstance(value, dict) and k in value]
    if not given:
        known: dict[type, str] = {NewestCommits: "newest", SampledCommits: "sample", ListedCommits: "list", RangeOfCommits: "range"}
        given = [known[type(value)]] if type(value) in known else []
    return f"<{given[0]}>" if given else None


Commits = Annotated[
    Annotated[NewestCommits, Tag("<newest>")]
    | Annotated[SampledCommits, Tag("<sample>")]
    | Annotated[ListedCommits, Tag("<list>")]
    | Annotated[RangeOfCommits, Tag("<range>")],
    Discriminator(_choice),
]


class GitSource(Frozen):
    """A git repository's history, with or without a file of issues."""

    kind: Literal["git"] = "git"
    repository: Words
    """A path, or an address that git can fetch from."""
    name: Words | None = None
    """`owner/name`; derived from the address where it is absent."""
    issues: Words | None = None
    """A file of issues: JSON lines in the shape of GitHub's REST API."""
    commits: Commits
    licence: Words | None = None
    """An SPDX expression that a person vouches for, in place of what would be detected."""


class GithubSource(Frozen):
    """Issues and the pull requests that fixed them, through GitHub's REST API."""

    kind: Literal["github"] = "github"
    repository: OwnerAndName
    base_url: WebAddress = "https://api.github.com"
    since: Since | None = None
    """Only pull requests updated since then."""
    limit: Count | None = None
    """Records at most; all where it is absent."""
    licence: Words | None = None


class ReleasesSource(Frozen):
    """Consecutive releases of a package in a Python package index."""

    kind: Literal["releases"] = "releases"
    package: PackageName
    versions: tuple[Words, ...] | None = Field(default=None, min_length=2)
    newest: Annotated[int, Field(ge=2, le=1000, strict=True)] | None = None
    """That many of the newest final releases: one record fewer."""
    licence: Words | None = None

    @model_validator(mode="after")
    def _one_way_of_choosing(self) -> Self:
        if (self.versions is None) == (self.newest is None):
            raise ValueError("say either `versions` or `newest`")
        return self


class StackexchangeDumpSource(Frozen):
    """Questions with an accepted answer, from the public data dump of a Stack Exchange site."""

    kind: Literal["stackexchange_dump"] = "stackexchange_dump"
    path: Words
    """`Posts.xml`, a 7z that holds it, or the directory of either. `Users` and `PostHistory` are used where they lie beside it."""
    site: SiteName = "stackoverflow.com"
    tags: tuple[TagName, ...] = ()
    """Questions with any of these; all where there are none."""
    min_score: Annotated[int, Field(strict=True)] | None = None
    since: Since | None = None
    """Only questions asked since then."""
    limit: Count | None = None
    """Records at most; all where it is absent."""


class StackexchangeApiSource(Frozen):
    """The same through the Stack Exchange API 2.3."""

    kind: Literal["stackexchange_api"] = "stackexchange_api"
    site: SiteName = "stackoverflow.com"
    base_url: WebAddress = "https://api.stackexchange.com/2.3"
    tags: tuple[TagName, ...] = Field(min_length=1)
    """Questions with any of these: one listing for each."""
    min_score: Annotated[int, Field(strict=True)] | None = None
    since: Since | None = None
    limit: Count | None = None


Source = Annotated[
    GitSource | GithubSource | ReleasesSource | StackexchangeDumpSource | StackexchangeApiSource, Field(discriminator="kind")
]


class SourcesFile(Frozen):
    """All sources of a file, in its order."""

    sources: tuple[Source, ...] = Field(alias="source")
