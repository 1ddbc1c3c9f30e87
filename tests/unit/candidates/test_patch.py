"""The diff parser: it is lossless, and the real `git apply` accepts any selection of files."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from task_builders.candidates import patch
from task_builders.candidates.patch import PatchError

NAMES = [
    "a.txt",
    "with space.txt",
    "tab\there",
    "ünïcode.py",
    'quo"te',
    "back\\slash",
    "dir/b c/d.py",
    "new\nline",
    "b/a.txt",
    "raw\udcff.bin",
]
LINES = [
    "x\n",
    "--- a/fake\n",
    "+++ b/fake\n",
    "diff --git a/x b/x\n",
    "@@ -1 +1 @@\n",
    "\r\n",
    "form\ffeed\n",
    "\u2028sep\n",
    "\n",
    "-\n",
    "é\udcfe\n",
]
contents = st.one_of(
    st.none(),
    st.lists(st.sampled_from(LINES), max_size=12).map("".join).map(lambda s: s.encode(errors="surrogateescape")),
    st.lists(st.sampled_from(LINES), min_size=1, max_size=3).map("".join).map(lambda s: s.encode(errors="surrogateescape").rstrip(b"\n")),
    st.binary(min_size=1, max_size=60).map(lambda b: b"\0" + b),
)
trees = st.dictionaries(st.sampled_from(NAMES), st.tuples(contents, contents), min_size=1, max_size=5)


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    settled = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false"]
    return subprocess.run(["git", "-C", str(directory), *settled, *arguments], input=stdin, capture_output=True, check=True).stdout


def write(root: Path, tree: Mapping[str, bytes | None]) -> None:
    for name, content in tree.items():
        path = root / name
        path.unlink(missing_ok=True)
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def diff_between(root: Path, before: Mapping[str, bytes | None], after: Mapping[str, bytes | None]) -> str:
    git(root, "init", "--quiet")
    write(root, before)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--allow-empty", "-m", "before")
    write(root, after)
    git(root, "add", "--all")
    out = git(root, "diff", "--cached", "--binary", "--full-index", "HEAD")
    git(root, "reset", "--quiet", "--hard")
    return out.decode(errors="surrogateescape")


@settings(max_examples=6)
@given(trees, st.sets(st.integers(0, 4)))
def test_parts_join_to_the_whole_and_apply_one_after_the_other(
    tree: dict[str, tuple[bytes | None, bytes | None]], chosen: set[int]
) -> None:
    before = {n: b for n, (b, _) in tree.items()}
    after = {n: a for n, (_, a) in tree.items()}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        text = diff_between(root, before, after)
        files = patch.parse(text)
        assert patch.join(files) == text
        first = [f for n, f in enumerate(files) if n in chosen]
        second = [f for n, f in enumerate(files) if n not in chosen]
        for part in (first, second):
            if part:
                git(root, "apply", "--whitespace=nowarn", "-", stdin=patch.join(part).encode(errors="surrogateescape"))
        for name, content in after.items():
            found = (root / name).read_bytes() if (root / name).exists() else None
            assert found == content


def test_names_of_all_kinds_are_told(tmp_path: Path) -> None:
    before = dict.fromkeys(NAMES, b"old\n")
    after = dict.fromkeys(NAMES, b"new\n")
    assert {f.path for f in patch.parse(diff_between(tmp_path, before, after))} == set(NAMES)


def test_added_and_removed_files_have_one_side(tmp_path: Path) -> None:
    files = {f.path: f for f in patch.parse(diff_between(tmp_path, {"old": b"1\n", "new": None}, {"old": None, "new": b"2\n"}))}
    assert (files["old"].old_path, files["old"].new_path, files["old"].is_removed) == ("old", None, True)
    assert (files["new"].old_path, files["new"].new_path, files["new"].added) == (None, "new", ("2",))


def test_an_empty_file_and_a_mode_change_are_told_by_their_header(tmp_path: Path) -> None:
    assert [f.path for f in patch.parse(diff_between(tmp_path, {"a": b"x\n"}, {"with space": b"", "a": b"x\n"}))] == ["with space"]
    text = "diff --git a/run me.sh b/run me.sh\nold mode 100644\nnew mode 100755\n"
    assert patch.parse(text)[0].path == "run me.sh"


def test_a_rename_knows_both_names(tmp_path: Path) -> None:
    body = b"".join(b"line %d\n" % n for n in range(30))
    (moved,) = patch.parse(diff_between(tmp_path, {"a b": body, "c": None}, {"a b": None, "c": body + b"more\n"}))
    assert (moved.path, moved.renamed_from, moved.added) == ("c", "a b", ("more",))


def test_a_submodule_is_marked() -> None:
    text = (
        "diff --git a/lib b/lib\nindex 1111111..2222222 160000\n--- a/lib\n+++ b/lib\n"
        "@@ -1 +1 @@\n-Subproject commit 1\n+Subproject commit 2\n"
    )
    assert patch.parse(text)[0].is_submodule


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "without `diff --git`"),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-a\n", "is incomplete"),
        ("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n?a\n", "line 5"),
        ("diff --git x x\nindex 1..2 100644\n--- x\n+++ x\n", "prefix"),
        ('diff --git "a/\\q" "b/\\q"\nold mode 100644\nnew mode 100755\n', "broken quotes"),
    ],
)
def test_what_is_no_git_diff_is_refused_by_line(text: str, complaint: str) -> None:
    with pytest.raises(PatchError, match=complaint):
        patch.parse(text)


def test_a_text_without_a_diff_has_no_files() -> None:
    assert patch.parse("") == ()
    assert patch.parse("nothing of the kind\n") == ()
