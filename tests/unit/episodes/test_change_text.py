"""The change for people, made by a real git in a temporary repository."""

import subprocess
import tracemalloc
from pathlib import Path

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import BoxLost
from envfarm.core.sandbox import SandboxSpec
from envfarm.episodes.change_text import TEXT_CHARS, git_diff, listed
from envfarm.testing.factories import make_environment
from envfarm.testing.git_repository import Repository
from envfarm.testing.scripted_box import ScriptedBox, run_on_host


@pytest.fixture
def box(tmp_path: Path) -> ScriptedBox:
    return ScriptedBox(SandboxSpec(environment=make_environment()), run_on_host(tmp_path))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = Repository.make(tmp_path / "work dir")
    made.commit("start", {"a.py": "one\ntwo\n", "empty": "", "gone": "x\n", ".gitignore": "*.log\n"})
    return made.path


def touched(root: Path) -> dict[str, int]:
    return {str(p): p.stat().st_ctime_ns for p in (root / ".git").rglob("*") if p.is_file()}


def begin_again_with(repository: Path, patch: str) -> None:
    for words in (["add", "-A"], ["stash"], ["apply", "-"]):
        subprocess.run(["git", *words], cwd=repository, input=patch, check=True, capture_output=True, text=True)


async def test_it_applies_to_the_tree_that_it_was_made_of_where_there_are_binary_files(box: ScriptedBox, repository: Path) -> None:
    (repository / "a.py").write_text("one\nTWO\n")
    (repository / "cache.pyc").write_bytes(b"\x00\x01")
    (repository / "z.py").write_text("Binary files a and b differ\n")
    text = await git_diff(box, str(repository))
    assert text is not None
    assert "Binary files /dev/null and b/cache.pyc differ\n" in text
    begin_again_with(repository, text)
    assert (repository / "a.py").read_text() == "one\nTWO\n"
    assert (repository / "z.py").read_text() == "Binary files a and b differ\n"
    assert not (repository / "cache.pyc").exists()


async def test_edits_new_files_and_deletions_are_shown_and_git_is_left_alone(box: ScriptedBox, repository: Path) -> None:
    (repository / "a.py").write_text("one\nTWO\n")
    (repository / ":(odd) näme").write_text("new\n")
    (repository / "empty2").touch()
    (repository / "x.log").write_text("ignored\n")
    (repository / "gone").unlink()
    before = touched(repository)
    text = await git_diff(box, str(repository))
    assert text is not None
    for row in ("-two\n+TWO\n", "+new\n", "deleted file mode", "empty2"):
        assert row in text
    assert "ignored" not in text
    assert touched(repository) == before


async def test_no_change_is_an_empty_text(box: ScriptedBox, repository: Path) -> None:
    assert await git_diff(box, str(repository)) == ""


async def test_a_tree_without_git_and_a_lost_box_give_none(box: ScriptedBox, tmp_path: Path) -> None:
    assert await git_diff(box, str(tmp_path)) is None
    box.fail("exec", BoxLost("gone"))
    assert await git_diff(box, str(tmp_path)) is None


def test_every_kind_of_change_is_listed() -> None:
    change = Change(
        (
            ChangedFile("a", 0o644, b"x\ny\n"),
            ChangedFile("b", 0o644, b"\0\1"),
            ChangedFile("c", 0o777, link="a"),
            ChangedFile("d", 0o755),
            ChangedFile("odd\udcff", 0o644, b""),
        ),
        ("gone",),
    )
    text = listed(change)
    for row in (
        "deleted: /gone",
        "now: /a\n+x\n+y",
        "binary: /b (2 bytes)",
        "link: /c -> a",
        "directory: /d",
        "now: /odd\N{REPLACEMENT CHARACTER}",
    ):
        assert row in text


def test_of_a_huge_change_no_more_is_read_than_is_shown() -> None:
    change = Change(tuple(ChangedFile(name, 0o644, b"line\n" * (2 << 20)) for name in "abc"))
    tracemalloc.start()
    text = listed(change)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(text) <= TEXT_CHARS
    assert text.endswith("(10485760 bytes)\nand 2 files more")
    assert peak < len(change.files[0].content or b"")
