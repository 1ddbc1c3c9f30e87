"""The sources file: what it may say, and how mistakes are told."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from envfarm.core.errors import UsageError
from task_builders import sources_file
from task_builders.sources.source_models import (
    GithubSource,
    GitSource,
    ListedCommits,
    NewestCommits,
    RangeOfCommits,
    ReleasesSource,
    SampledCommits,
    StackexchangeApiSource,
    StackexchangeDumpSource,
)

WHOLE = """\
[[source]]
kind = "git"
repository = "histories/frob"
name = "acme/frob"
issues = "../issues.jsonl"
commits = { newest = 15 }
licence = "MIT"

[[source]]
kind = "git"
repository = "https://forge.example/acme/frob.git"
[source.commits]
sample = 15
seed = 3
since = 2018-01-01

[[source]]
kind = "git"
repository = "/srv/frob"
commits = { list = ["abc", "def"] }

[[source]]
kind = "git"
repository = "/srv/frob"
commits = { range = "v1..v2" }

[[source]]
kind = "github"
repository = "acme/frob"
since = "2024-01-01T10:00:00+02:00"
limit = 20

[[source]]
kind = "releases"
package = "frob"
versions = ["1.0", "1.1"]

[[source]]
kind = "stackexchange_dump"
path = "dumps/unix"
site = "unix.stackexchange.com"
tags = ["awk", "c++"]
min_score = 3

[[source]]
kind = "stackexchange_api"
tags = ["jq"]
since = 2020-01-01
"""


def test_all_kinds_are_read_and_paths_made_absolute(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(WHOLE)
    one, two, three, four, five, six, seven, eight = sources_file.read(file)
    assert isinstance(one, GitSource)
    assert (one.repository, one.issues) == (str(tmp_path / "histories/frob"), str(tmp_path / "../issues.jsonl"))
    assert one.commits == NewestCommits(newest=15)
    assert isinstance(two, GitSource)
    assert two.repository == "https://forge.example/acme/frob.git"
    assert two.commits == SampledCommits(sample=15, seed=3, since=datetime(2018, 1, 1, tzinfo=UTC))
    assert isinstance(three, GitSource)
    assert three.commits == ListedCommits(list=("abc", "def"))
    assert isinstance(four, GitSource)
    assert four.commits == RangeOfCommits(range="v1..v2")
    assert isinstance(five, GithubSource)
    assert (five.limit, five.base_url) == (20, "https://api.github.com")
    assert six == ReleasesSource(package="frob", versions=("1.0", "1.1"))
    assert seven == StackexchangeDumpSource(
        path=str(tmp_path / "dumps/unix"), site="unix.stackexchange.com", tags=("awk", "c++"), min_score=3
    )
    assert eight == StackexchangeApiSource(tags=("jq",), since=datetime(2020, 1, 1, tzinfo=UTC))


GIT = '[[source]]\nkind = "git"\nrepository = "x"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            GIT + 'commits = { newest = 1 }\n[[source]]\nkind = "git"\nrepositry = "x"',
            "f:7: source[2].repositry: is not known: did you mean `repository`?",
        ),
        (GIT + "commits = { newest = 0 }", "f:4: source[1].commits.newest: input should be greater than 0"),
        (GIT + "commits = { newest = 1, sample = 2 }", "f:4: source[1].commits.sample: `newest` and `sample` exclude each other"),
        (GIT + "commits = { newst = 1 }", "f:4: source[1].commits: say one of `newest`, `sample`, `list`, `range`"),
        (GIT + "[source.commits]\nsample = 1\nsince = 'soon'", "f:6: source[1].commits.since: "),
        (GIT + 'commits = { range = "a" }', "f:4: source[1].commits.range: 'a' is not a range `A..B`"),
        (GIT, "f:1: source[1].commits: is missing"),
        ('[[source]]\nkind = "gti"', "f:1: source[1]: `kind` is 'gti': did you mean `git`?"),
        ('[[source]]\nrepository = "x"', "f:1: source[1]: `kind` is missing"),
        ('[[source]]\nkind = "github"\nrepository = "frob"', "f:3: source[1].repository: 'frob' is not `owner/name`"),
        ('[[source]]\nkind = "releases"\npackage = "frob"', "f:1: source[1]: say either `versions` or `newest`"),
        ('[[source]]\nkind = "stackexchange_api"\ntags = ["jq"]\nsite = "so"', "f:4: source[1].site: 'so' is not a site's name"),
        ('[[source]]\nkind = "stackexchange_api"', "f:1: source[1].tags: is missing"),
        ('[[source]]\nkind = "stackexchange_dump"\npath = "p"\ntag = ["a"]', "f:4: source[1].tag: is not known: did you mean `tags`?"),
        ('[[source]]\nkind = "stackexchange_api"\ntags = "jq"', 'f:3: source[1].tags: is a list: write `["jq"]`'),
        ('[[source]]\nkind = "stackexchange_api"\ntags = 3', "f:3: source[1].tags: is a list"),
        ('# one\n[source]\nkind = "git"', "f:2: source: each source is a table of its own: write `[[source]]` above its keys"),
        ("[[sources]]\nkind = 1", "f: `sources` is not known here; there is no [[source]] in it"),
        ("", "f: there is no [[source]] in it"),
        ("[[source]]\nkind = git", "f:2: Invalid value"),
    ],
)
def test_mistakes_are_told_with_line_and_key(text: str, complaint: str) -> None:
    with pytest.raises(UsageError) as told:
        sources_file.parse(text, "f", Path("/d"))
    assert complaint in str(told.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(UsageError) as told:
        sources_file.parse(GIT + "commits = { newest = 0 }\nlicense = 'MIT'\nname = ''", "f", Path("/d"))
    assert [line.split(": ")[1] for line in str(told.value).splitlines()] == [
        "source[1].name",
        "source[1].commits.newest",
        "source[1].license",
    ]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        sources_file.read(tmp_path / "none.toml")
