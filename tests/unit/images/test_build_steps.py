"""A failed step is told with its end; a project's own checkout is the checkout and what the steps made."""

from pathlib import Path

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import ImageError
from envfarm.core.sandbox import ExecResult
from envfarm.images.build_steps import StepLog, files_archive, outcome, own_checkout, shorten, step_failed
from envfarm.images.tarball import Entry, pack, unpack

CHECKOUT = pack(
    [Entry("testbed", 0o755), Entry("testbed/a.py", content=b"a"), Entry("testbed/gone/x", content=b"x"), Entry("testbed/l", link="a.py")],
    mtime_s=1234,
)


def test_what_the_steps_made_is_in_the_checkout() -> None:
    made = (
        ChangedFile("opt/venv/lib/p.pth", 0o644, b"/testbed\n"),
        ChangedFile("testbed/a.py", 0o755, b"changed"),
        ChangedFile("testbed/build", 0o755),
        ChangedFile("testbed/__pycache__/a.pyc", 0o644, b"cache"),
    )
    archive = own_checkout(CHECKOUT, Change(made, deleted=("testbed/gone",)), work_dir="/testbed")
    entries = {entry.path: (entry, mtime_s) for entry, mtime_s in unpack(archive)}
    assert sorted(entries) == ["opt/venv/lib/p.pth", "testbed", "testbed/a.py", "testbed/build", "testbed/l"]
    assert entries["testbed/a.py"][0] == Entry("testbed/a.py", 0o755, b"changed")
    assert {mtime_s for _, mtime_s in entries.values()} == {1234}


def test_no_change_gives_the_same_bytes() -> None:
    assert own_checkout(CHECKOUT, Change(), work_dir="/testbed") == CHECKOUT


def test_the_layer_may_not_lose_a_file() -> None:
    with pytest.raises(ImageError, match="deleted /opt/venv/bin/x") as told:
        own_checkout(CHECKOUT, Change(deleted=("opt/venv/bin/x",)), work_dir="/testbed")
    assert "uv pip uninstall" in told.value.hint


def test_the_layer_may_lose_caches_and_have_a_directory_replaced() -> None:
    change = Change((ChangedFile("opt/venv/d", 0o777, link="e"),), deleted=("opt/venv/__pycache__/m.pyc", "opt/venv/d"))
    entries = [entry.path for entry, _ in unpack(own_checkout(CHECKOUT, change, work_dir="/testbed"))]
    assert "opt/venv/d" in entries


def test_a_failed_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    error = step_failed("step 2 of 3", "status 1", "\n".join(f"line {n}" for n in range(100)), tmp_path / "log")
    assert "step 2 of 3 ended with status 1" in str(error)
    assert str(error).count("\n") == 40
    assert str(error).endswith("line 99")
    assert "line 59\n" not in str(error)
    assert str(tmp_path / "log") in error.hint


def test_how_a_step_ended() -> None:
    assert outcome(ExecResult(exit_code=3)) == "status 3"
    assert outcome(ExecResult(exit_code=None, signal=9, limit_hit="memory")) == "signal 9 (the box's memory limit)"
    assert outcome(ExecResult(exit_code=None, signal=9, timed_out=True)) == "a timeout"


def test_a_log_is_kept_until_it_is_discarded(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "logs/x.log")
    log.add("make", ExecResult(exit_code=2, stderr=b"no rule\n"))
    assert "$ make\nno rule" in log.path.read_text()
    log.discard()
    log.discard()
    assert not log.path.exists()


def test_long_commands_are_shortened() -> None:
    assert shorten("a\n  b") == "a b"
    assert len(shorten("x" * 500)) == 118


def test_text_files_are_rooted() -> None:
    assert [entry for entry, _ in unpack(files_archive({"/opt/envfarm/lock.txt": "é\n"}))] == [
        Entry("opt/envfarm/lock.txt", content="é\n".encode())
    ]


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_an_archive_that_leaves_its_root_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="leaves the archive"):
        list(unpack(pack([Entry(name, content=b"")], mtime_s=0)))


def test_names_that_are_no_text_survive() -> None:
    odd = b"odd \xff name".decode(errors="surrogateescape")
    assert [entry.path for entry, _ in unpack(pack([Entry(odd, content=b"1"), Entry("x" * 300, content=b"")], mtime_s=0))] == [
        odd,
        "x" * 300,
    ]


def test_what_is_no_archive_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        list(unpack(b"nonsense" * 200))
