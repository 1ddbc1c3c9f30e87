"""What leads upstream is found and removed by scrubbing; everything else stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_builders.candidates.identifiers import find_ids, scrub
from task_builders.candidates.upstream import Upstream, upstream_at

PROJECT = Upstream("acme/frob", ("c0ffee1234567890c0ffee1234567890c0ffee12",), frozenset({"property"}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Fix the parser (#123)", "Fix the parser"),
        ("Fix the parser (fixes #826).", "Fix the parser."),
        ("Fix #718: printer breaks ternaries", "printer breaks ternaries"),
        ("Fix issue #926 - copy attributes", "copy attributes"),
        ("Handle `help`, closing #2819", "Handle `help`"),
        ("Prior to #489, this worked", "Prior to another issue, this worked"),
        ("See GH-12 and PR 34 for more", "See another issue and another change for more"),
        ("Recognize X as a keyword (issue773)", "Recognize X as a keyword"),
        ("Broken since commit 9b5e988ccc36d906b5c1ef6681ba7242f758fe2f in main", "Broken since another commit in main"),
        ("As acme/frob#9 and other/thing#7 say", "As other issues say"),
        ("Look at https://github.com/other/thing/pull/4 first", "Look at another change first"),
        ("[the docs](https://forge.example/acme/frob/wiki) say so", "the docs say so"),
        ("[#12](https://forge.example/acme/frob/issues/12) broke it", "another issue broke it"),
        ("Thanks to @some-body for this", "Thanks to someone for this"),
        ("Supersedes the fix for GHSA-abcd-1234-wxyz here", "Supersedes the fix for a security report here"),
        ("New option. {issue}`2672` {pr}`3637`", "New option."),
        ("New option (:issue:`2672`)", "New option"),
        ("Raise OSError in from_timestamp #1234", "Raise OSError in from_timestamp"),
        ("A sentence. See #5 on this issue.\nMore.", "A sentence.\nMore."),
        ("Fix what #9 broke in 8.4.0 and properly fix #43 and #52", "Fix what another issue broke in 8.4.0"),
        ("Fix a regression that came by #9 and properly fix #43 and #52.", "Fix a regression that came by another issue."),
        ("Drop the cache, which should also close #43", "Drop the cache"),
        ("Drop the cache - hopefully fixes #43", "Drop the cache"),
        ("Drop the cache\nand finally resolve #43.", "Drop the cache."),
        ("Drop the cache fixes #43", "Drop the cache"),
        ("The patch finally fixes #43", "The patch finally fixes another issue"),
        ("Drop the cache to fix #43.", "Drop the cache to fix another issue."),
        ("Drop the cache. It should fix issue #43", "Drop the cache. It should fix another issue"),
        ("Drop the cache because it fixes #43", "Drop the cache because it fixes another issue"),
        ("What was introduced via #43", "What was introduced via another issue"),
        ("See https://github.com/acme/frob/blob/9b5e988ccc/src/x.py#L10-L20 for it", "See `src/x.py`, lines 10 to 20 for it"),
    ],
)
def test_scrubbed_texts_read_well_and_pass_the_gate(text: str, expected: str) -> None:
    assert scrub(text, PROJECT) == expected
    assert find_ids(scrub(text, PROJECT), PROJECT) == ()


@pytest.mark.parametrize(
    "text",
    [
        "test #1 fails, test #2 passes",
        "uuid 550e8400-e29b-41d4-a716-446655440000",
        "object at 0x7f3a2b1c9d0e",
        "the colour `#123456` and &#39;",
        "the deadbeef and the facade",
        "version 1.2.3 of 20240101",
        "use @property or @attr.s, mail me@example.com",
        "https://docs.python.org/3/library/re.html",
        "```\n# see #12 at abcdef1234567\n@someone\n```\n",
        "`PR 12` in code",
    ],
)
def test_what_leads_nowhere_is_left_alone(text: str) -> None:
    assert find_ids(text, PROJECT) == ()
    assert scrub(text, PROJECT) == text


def test_lines_that_only_refer_go_but_not_the_end_of_a_sentence() -> None:
    assert scrub("Add it\n\nCloses #1\nRefs: #2, #3\n", PROJECT) == "Add it\n\n"
    assert "another issue" in scrub("A regression that came with\n#12 and\n", PROJECT)


def test_code_loses_addresses_of_the_project_hashes_of_the_fix_and_what_git_is_given() -> None:
    text = "```\ngit clone https://forge.example/acme/frob.git\nat c0ffee1\ngit -C x show deadbee1\nsha1 deadbee1\n```\n"
    assert len(find_ids(text, PROJECT)) == 3
    assert scrub(text, PROJECT) == "```\ngit clone <link>\nat <commit>\ngit -C x show <commit>\nsha1 deadbee1\n```\n"
    assert find_ids("`git checkout 9b5e988ccc36d906b5c1ef6681ba7242f758fe2f`")


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/acme/frob",
        "github.com/acme/frob",
        "git@github.com:acme/frob.git",
        "ssh://git@forge.example/acme/frob",
        "git+https://github.com/acme/frob@main",
        "https://api.github.com/repos/acme/frob/contents",
        "https://pypi.org/project/frob/2.0/",
        "pypi.org/project/frob/2.0/",
    ],
)
def test_the_projects_address_is_found_however_it_is_written(address: str) -> None:
    for text in (f"See {address} for more", f"```\npip install {address}\n```\n", f"`{address}`"):
        assert find_ids(text, PROJECT), text
        assert find_ids(scrub(text, PROJECT), PROJECT) == ()
        assert find_ids(text, Upstream("other/thing")) == ()


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        ("https://github.com/acme/frob/issues/12", Upstream("acme/frob")),
        ("https://github.com/acme/frob/commit/c0ffee1234567890c0ffee1234567890c0ffee12", PROJECT),
        ("https://forge.example/acme/frob.git", Upstream("acme/frob")),
        ("https://pypi.org/project/frob/2.0/", Upstream("frob")),
        ("/src/histories/frob@c0ffee1234567890c0ffee1234567890c0ffee12", Upstream("", PROJECT.commits)),
        ("", Upstream()),
    ],
)
def test_a_sources_address_tells_the_project(url: str, upstream: Upstream) -> None:
    found = upstream_at(url)
    assert (found.name, found.commits) == (upstream.name, upstream.commits)


def test_a_package_known_by_name_alone_is_recognised_on_forges() -> None:
    assert find_ids("at https://forge.example/anyone/frob/releases", Upstream("frob"))
    assert not find_ids("at https://forge.example/anyone/frobnicator", Upstream("frob"))


PIECES = (
    "#12|(|)| |\n|\n\n|fixes|see|and|,|.|`|```\n|GH-7|a/b#3|@me|word|[|](|https://github.com/acme/frob/issues/4|9b5e988cc|    |- |<!--|-->"
    "|PR 45|CVE-2024-12345|:issue:`9`"
)
pieces = st.lists(st.sampled_from(PIECES.split("|")), max_size=30).map("".join)


@given(pieces)
def test_nothing_is_found_after_scrubbing_whatever_the_text(text: str) -> None:
    scrubbed = scrub(scrub(text, PROJECT), PROJECT)
    assert find_ids(scrubbed, PROJECT) == ()


def test_a_changelogs_references_go_with_the_names_of_their_authors() -> None:
    assert scrub("* Add a DIV operator (pr664, by someone-else).") == "* Add a DIV operator."
    assert scrub("* Sort the rows (by name).") == "* Sort the rows (by name)."
