import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.episodes.edits import EditError, around, is_binary, numbered, remarks, replace_once


def test_one_occurrence_is_replaced_and_the_rest_stays_byte_for_byte() -> None:
    content = b"\xff\xfe latin\r\ndef f():\n    return 1\n\x80"
    edit = replace_once(content, "return 1", "return 2")
    assert edit.content == b"\xff\xfe latin\r\ndef f():\n    return 2\n\x80"
    assert edit.line == 3


@given(st.binary(max_size=60).filter(lambda b: b"<here>" not in b), st.binary(max_size=60).filter(lambda b: b"<here>" not in b))
def test_bytes_around_the_place_never_change(before: bytes, after: bytes) -> None:
    if (before + b"<here>" + after).count(b"<here>") == 1:
        assert replace_once(before + b"<here>" + after, "<here>", "x").content == before + b"x" + after


def test_crlf_files_keep_crlf_although_models_say_lf() -> None:
    edit = replace_once(b"a\r\nb\r\nc\r\n", "a\nb\n", "a\nnew\nb\n")
    assert edit.content == b"a\r\nnew\r\nb\r\nc\r\n"


def test_files_of_mixed_line_ends_are_taken_literally() -> None:
    assert replace_once(b"a\r\nb\n", "b\n", "c\nd\n").content == b"a\r\nc\nd\n"
    with pytest.raises(EditError):
        replace_once(b"a\r\nb\n", "a\nb\n", "x")


def test_an_ambiguous_text_is_refused_with_its_places() -> None:
    with pytest.raises(EditError, match=r"occurs 3 times \(at lines 1, 2, 4\)"):
        replace_once(b"x = 1\nx = 1\ny\nx = 1\n", "x = 1", "z")


def test_overlapping_occurrences_are_ambiguous_too() -> None:
    with pytest.raises(EditError, match="occurs 2 times"):
        replace_once(b"aaa", "aa", "b")


def test_many_places_are_not_all_listed() -> None:
    with pytest.raises(EditError, match=r"occurs 50 times \(at lines 1, 2, 3, 4, 5, 6, 7, 8, \.\.\.\)"):
        replace_once(b"x\n" * 50, "x", "y")


def test_an_absent_text_names_lines_that_differ_by_space() -> None:
    with pytest.raises(EditError, match=r"line 2\)"):
        replace_once(b"def f():\n        return 1\n", "    return 1\n    more", "x")
    with pytest.raises(EditError, match=r"does not occur in the file$"):
        replace_once(b"abc", "xyz", "x")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("", "x", "is empty"), ("a", "a", "the same"), ("a", "\ud800", "invalid character"), ("\ud800", "a", "invalid character")],
)
def test_impossible_replacements_say_why(old: str, new: str, words: str) -> None:
    with pytest.raises(EditError, match=words):
        replace_once(b"a", old, new)


def test_lines_are_numbered_and_long_ones_cut() -> None:
    assert numbered(b"a\n\nb\n", 9) == "     9\ta\n    10\t\n    11\tb"
    assert numbered(b"y" * 2005, 1).endswith("y[... 5 more characters]")
    assert "\r" not in numbered(b"a\r\nb\r\n", 1)
    assert numbered(b"\xff", 1) == "     1\t\N{REPLACEMENT CHARACTER}"


def test_the_edited_place_is_shown_with_lines_around_it() -> None:
    edit = replace_once(b"".join(b"line %d\n" % n for n in range(1, 21)), "line 10\n", "new a\nnew b\n")
    shown = around(edit).splitlines()
    assert shown[0].split("\t") == ["     6", "line 6"]
    assert "    10\tnew a" in shown
    assert len(shown) == 11


def test_an_emptied_file_shows_nothing() -> None:
    assert around(replace_once(b"all", "all", "")) == ""


def test_what_numbered_lines_hide_is_remarked() -> None:
    assert remarks(b"a\r\n") == ("lines end with CRLF",)
    assert remarks("ä\n".encode()) == ()
    assert "not UTF-8" in remarks(b"\xe4\n")[0]
    assert remarks("ä".encode()[:1]) == ()
    assert is_binary(b"\x7fELF\0")
    assert not is_binary(b"text")
