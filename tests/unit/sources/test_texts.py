"""What the sources read in texts: references, licences, changelogs, releases' metadata, JSON lines."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from envfarm.core.errors import SourceError
from task_builders.sources import changelog, issue_file, licence_detection, linking
from task_builders.sources.linking import Reference
from task_builders.sources.package_index import IndexFile, ProjectListing, index_url, shown
from task_builders.sources.releases import choose, licence_of_metadata, release_url
from task_builders.sources.source_models import ReleasesSource

BSD = "Redistribution and use in source and binary forms, with or without\nmodification, are permitted provided that\n"
ENDORSE = "3. Neither the name of the holder may be used to endorse or promote products\n"
MIT = (
    "Permission is hereby granted, free of charge, to any person obtaining a copy ... without restriction ... "
    "The above copyright notice and this permission notice {}shall be included"
)


@pytest.mark.parametrize("word", ["close", "closes", "closed", "fix", "fixes", "fixed", "resolve", "Resolves", "RESOLVED"])
def test_each_keyword_closes(word: str) -> None:
    assert linking.closing_references(f"It is so.\n{word} #12") == (Reference("", 12),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fixes: #1", (Reference("", 1),)),
        ("fixes gh-3", (Reference("", 3),)),
        ("Fixes issue #1 and closes #2", (Reference("", 1), Reference("", 2))),
        ("closes #1, #2 & #3", (Reference("", 1), Reference("", 2), Reference("", 3))),
        ("fix(#4): it", (Reference("", 4),)),
        ("closes a/b#5", (Reference("a/b", 5),)),
        ("resolves https://github.com/a/b/issues/6#issuecomment-7", (Reference("a/b", 6),)),
        ("see #1", ()),
        ("prefixes #1", ()),
        ("fixes nothing, #1", ()),
        ("<!-- fixes #1 -->", ()),
    ],
)
def test_closing_references(text: str, expected: tuple[Reference, ...]) -> None:
    assert linking.closing_references(text) == expected


def test_references_of_other_projects_are_not_own() -> None:
    assert linking.own_numbers((Reference("", 1), Reference("A/b", 2), Reference("c/d", 3)), "a/B") == (1, 2)


def test_pull_requests_in_messages() -> None:
    assert linking.merged_pull_request("Merge pull request #12 from a/b\n\nTitle") == 12
    assert linking.merged_pull_request("Merge branch 'main' into x") is None
    assert linking.squashed_pull_request("Do it (#12)\n\nbody (#13)") == 12
    assert linking.squashed_pull_request("Do it (#12) again") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MIT.format(""), "MIT"),
        (MIT.format("(including the next paragraph) "), "MIT"),
        (BSD, "BSD-2-Clause"),
        (BSD + ENDORSE, "BSD-3-Clause"),
        (MIT.format("") + BSD, "MIT AND BSD-2-Clause"),
        ("    Apache License\n   Version 2.0, January 2004\n", "Apache-2.0"),
        (
            "GNU GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n ... GNU Affero General Public License version 3 ... noncommercially",
            "GPL-3.0-only",
        ),
        ("Mozilla Public License Version 2.0\n", "MPL-2.0"),
        ("This is free and unencumbered software released into the public domain.", "Unlicense"),
        ("“Commons Clause” License Condition\n" + MIT.format(""), None),
        (MIT.format("") + " for non-commercial use", None),
        ("All rights reserved.", None),
        ("", None),
    ],
)
def test_licence_texts(text: str, expected: str | None) -> None:
    assert licence_detection.of_text(text) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"LICENSE": MIT.format("")}, "MIT"),
        ({"LICENSE-MIT": MIT.format(""), "LICENSE-APACHE": "Apache License Version 2.0, January 2004"}, "Apache-2.0 OR MIT"),
        ({"LICENSE": "odd words", "pyproject.toml": '[project]\nlicense = "mit or apache-2.0"'}, "MIT OR Apache-2.0"),
        ({"pyproject.toml": '[project]\nlicense = {text = "MIT License"}'}, "MIT"),
        ({"setup.py": "setup(name='x', license='BSD')", "LICENSE": BSD}, "BSD-2-Clause"),
        ({"setup.py": "setup(name='x', license='BSD')"}, None),
        ({"Cargo.toml": '[package]\nlicense = "MIT/Apache-2.0"'}, "MIT OR Apache-2.0"),
        ({"package.json": '{"license": "ISC"}'}, "ISC"),
        ({"package.json": "{"}, None),
        ({"LICENSE": MIT.format(""), "COPYING": "with the Commons Clause"}, None),
        ({}, None),
    ],
)
def test_licences_of_trees(files: dict[str, str], expected: str | None) -> None:
    assert licence_detection.of_tree(files, files.get) == expected


def test_licences_of_metadata() -> None:
    assert licence_of_metadata("License-Expression: MIT OR Apache-2.0\nLicense: nonsense\n") == "MIT OR Apache-2.0"
    assert licence_of_metadata("Classifier: License :: OSI Approved :: MIT License\n\nText") == "MIT"
    assert licence_of_metadata("Classifier: License :: OSI Approved :: BSD License\nLicense: BSD-3-Clause\n") == "BSD-3-Clause"
    assert licence_of_metadata("Classifier: License :: OSI Approved :: BSD License\n") is None


MARKDOWN = "# Changes\n\n## [Unreleased]\n\n- later\n\n## [1.2.0] - 2024-01-01\n\n### Fixed\n\n- it\n\n## v1.1 (2023)\n\n- that\n"
RST = "Changes\n=======\n\nVersion 1.2\n-----------\n\nFixed\n^^^^^\n\n- it\n\nVersion 1.1.0\n-------------\n\n- that\n"
PLAIN = "1.2.0 (2024-01-01)\n\n * it\n\n1.1.0 (2023-01-01)\n\n * that\n"
OVERLINED = "======\n 1.2.0\n======\n\nit\n\n======\n 1.1.0\n======\n\nthat\n"


@pytest.mark.parametrize("text", [MARKDOWN, RST, PLAIN, OVERLINED, MARKDOWN.replace("\n", "\r\n")])
def test_sections_of_changelogs(text: str) -> None:
    newer, older = changelog.section(text, "1.2.0"), changelog.section(text, "1.1")
    assert newer is not None
    assert older is not None
    assert "it" in newer
    assert "that" not in newer
    assert "that" in older
    assert changelog.section(text, "1.3") is None
    assert changelog.section(text, "1.2.0rc1") is None


def test_a_section_without_words_is_none() -> None:
    assert changelog.section("## 1.1\n\n## 1.0\n\n- x\n", "1.1") is None


def test_changelogs_are_looked_for_near_the_top_first() -> None:
    paths = ["docs/changes.rst", "src/pkg/history.py", "HISTORY.md", "CHANGES.rst", "a/b/c/CHANGES", "news"]
    assert changelog.candidates(paths) == ["CHANGES.rst", "HISTORY.md", "news", "docs/changes.rst"]


def listing(*names: str, yanked: str = "") -> ProjectListing:
    files = tuple(IndexFile(filename=n, url=f"u/{n}", hashes={"sha256": "0"}, yanked=n == yanked) for n in names)
    return ProjectListing(name="frob", files=files)


def test_the_newest_final_releases_with_a_source_are_chosen() -> None:
    names = ["frob-1.9.tar.gz", "frob-1.10.tar.gz", "frob-2.0rc1.tar.gz", "frob-2.0-py3-none-any.whl", "frob-1.2.tgz", "frob-1.11.tar.gz"]
    chosen = choose(listing(*names, yanked="frob-1.11.tar.gz"), ReleasesSource(package="frob", newest=2))
    assert [str(v) for v, _ in chosen] == ["1.9", "1.10"]


def test_versions_are_taken_by_name_and_missing_ones_told() -> None:
    names = ("frob-1.0.tar.gz", "frob-2.0rc1.tar.gz")
    assert [str(v) for v, _ in choose(listing(*names), ReleasesSource(package="frob", versions=("2.0rc1", "1.0.0")))] == ["1.0", "2.0rc1"]
    with pytest.raises(SourceError, match=r"no source distribution of 3\.0") as told:
        choose(listing(*names), ReleasesSource(package="frob", versions=("1.0", "3.0")))
    assert "1.0" in told.value.hint
    with pytest.raises(SourceError, match="two are needed"):
        choose(listing("frob-1.0.tar.gz"), ReleasesSource(package="frob", newest=2))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "https://pypi.org/simple"),
        ({"PIP_INDEX_URL": "https://a.example/simple/"}, "https://a.example/simple"),
        ({"PIP_INDEX_URL": "https://a.example", "UV_INDEX_URL": "https://b.example"}, "https://b.example"),
        ({"UV_INDEX_URL": "https://b.example", "UV_DEFAULT_INDEX": "own=https://c.example/x"}, "https://c.example/x"),
    ],
)
def test_the_index_comes_from_variables(variables: dict[str, str], expected: str) -> None:
    assert index_url(variables) == expected


def test_credentials_are_not_shown() -> None:
    assert shown("https://me:secret@a.example:8443/simple") == "https://a.example:8443/simple"
    assert release_url("https://me:secret@a.example/simple", "Frob_X", "1.0") == "https://a.example/simple/frob-x/#1.0"
    assert release_url("https://pypi.org/simple", "Frob_X", "1.0") == "https://pypi.org/project/frob-x/1.0/"


def test_issues_may_carry_remarks_and_fixes(tmp_path: Path) -> None:
    file = tmp_path / "issues.jsonl"
    file.write_text(
        '{"number": 1, "title": "t", "body": null, "repository_url": "https://api.example/repos/a/b", "user": null, "fix_commit": "f00",'
        '"comments": [{"user": {"login": "ann"}, "body": "hm", "created_at": "2024-01-02T03:04:05Z"}]}\n'
        '{"number": 2, "title": "t", "html_url": "https://forge.example/a/b/pull/2", "pull_request": {"merged_at": null}, "comments": 3}\n'
    )
    issues = issue_file.read(file)
    first = issues.fixed_by("f00")
    assert first is not None
    assert first is issues.numbered("A/B", 1)
    assert first.comments[0].created_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    second = issues.numbered("a/b", 2)
    assert second is not None
    assert second.is_pull_request
    assert second.comments == ()
