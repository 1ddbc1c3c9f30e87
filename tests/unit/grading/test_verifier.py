"""The parts of the verifier archive that touch files; whole gradings with it are in the integration tests."""

import bz2
import gzip
import hashlib
import lzma
import subprocess
import tarfile
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest

from envfarm.core.change import CHANGE_BYTES, Change, ChangedFile
from envfarm.core.plan import TestCommand as Command
from envfarm.core.plan import TestPlan as Plan
from envfarm.grading import verifier
from envfarm.grading.integrity import IN_TIME
from envfarm.grading.procedure import sealed_change
from envfarm.grading.tree_change import BYTES_MAX, TreeError, difference
from envfarm.testing.archives import entry, tar_of
from task_builders.formats import verifier_archive
from tests.unit.grading.counting import lines_run


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    (work / "pkg").mkdir(parents=True)
    (work / ".git").mkdir()
    (work / "pkg/same.py").write_text("same")
    (work / "pkg/old.py").write_text("old")
    (work / "pkg/gone.py").write_text("gone")
    (work / ".git/config").write_text("x")
    return work


def archive(tmp_path: Path, work: Path, members: dict[str, bytes | str]) -> str:
    path = tmp_path / "work.tar"
    top = f"./{str(work).strip('/')}"
    links = [entry(f"{top}/{name}", kind=tarfile.SYMTYPE, link=held) for name, held in members.items() if isinstance(held, str)]
    files = [entry(f"{top}/{name}", held) for name, held in members.items() if isinstance(held, bytes)]
    path.write_bytes(tar_of(*files, *links))
    return str(path)


def test_a_difference_is_what_was_changed_added_and_removed(tmp_path: Path, work: Path) -> None:
    members: dict[str, bytes | str] = {
        "pkg/same.py": b"same",
        "pkg/old.py": b"new",
        "pkg/more.py": b"more",
        "link": "pkg",
        ".git/config": b"y",
    }
    change = difference(archive(tmp_path, work, members), str(work))
    root = str(work).strip("/")
    assert {f.path.removeprefix(root + "/"): f.content or f.link for f in change.files} == {
        "pkg/old.py": b"new",
        "pkg/more.py": b"more",
        "link": "pkg",
    }
    assert change.deleted == (f"{root}/pkg/gone.py",)


def test_a_mode_counts(tmp_path: Path, work: Path) -> None:
    (work / "pkg/same.py").chmod(0o755)
    change = difference(archive(tmp_path, work, {"pkg/same.py": b"same", "pkg/old.py": b"old", "pkg/gone.py": b"gone"}), str(work))
    assert len(change.files) == 1


NOISE = hashlib.shake_128(b"").digest(40_000)
WHOLE = tar_of(("work/a", NOISE), ("work/b", NOISE))
SPOILT = {
    "no tar": b"not a tar" * 100,
    "torn": WHOLE[: len(WHOLE) // 2],
    "xz": lzma.compress(WHOLE),
    "torn xz": lzma.compress(WHOLE)[:30_000],
    "gzip": gzip.compress(WHOLE),
    "torn gzip": gzip.compress(WHOLE)[:30_000],
    "gzip with a wrong byte": gzip.compress(WHOLE)[:20_000] + b"\xff" * 100 + gzip.compress(WHOLE)[20_100:],
    "torn bz2": bz2.compress(WHOLE)[:30_000],
    "endless headers": b"".join(entry(f"work/{n}", kind=tarfile.XHDTYPE)[0].tobuf() for n in range(3000)),
    "a number that is none": WHOLE[:108] + b"zzzzzzz" + WHOLE[115:],
}


@pytest.mark.parametrize("data", SPOILT.values(), ids=SPOILT.keys())
def test_what_is_no_archive_is_told(tmp_path: Path, work: Path, data: bytes) -> None:
    (tmp_path / "work.tar").write_bytes(data)
    with pytest.raises(TreeError):
        difference(str(tmp_path / "work.tar"), str(work))


def test_what_cannot_be_opened_or_read_is_no_archive(tmp_path: Path, work: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("folder", "link"):
        with pytest.raises(TreeError):
            difference(str(tmp_path / name), str(work))


def test_a_change_that_is_too_large_for_the_farm_is_too_large_here(tmp_path: Path, work: Path) -> None:
    with pytest.raises(TreeError, match="too much was changed"):
        difference(archive(tmp_path, work, {"huge": bytes(CHANGE_BYTES + 1)}), str(work))


def test_a_file_that_no_change_may_hold_is_not_read(tmp_path: Path, work: Path) -> None:
    packed = tmp_path / "work.tar"
    sparse = tarfile.TarInfo(f"{str(work).strip('/')}/huge")
    sparse.size = BYTES_MAX - 1
    with packed.open("wb") as file:
        file.write(sparse.tobuf())
        file.truncate(tarfile.BLOCKSIZE + sparse.size + tarfile.RECORDSIZE)
    tracemalloc.start()
    with pytest.raises(TreeError, match=r"too much was changed: .*huge alone"):
        difference(str(packed), str(work))
    assert tracemalloc.get_traced_memory()[1] < CHANGE_BYTES
    tracemalloc.stop()


def linked(tmp_path: Path, work: Path, links: int, target: bytes = b"x", below: str = "") -> str:
    names = [f"{str(work).strip('/')}/{below}{n}" for n in range(links + 1)]
    several = [entry(name, kind=tarfile.LNKTYPE, link=to) for to, name in pairwise(names)]
    (tmp_path / "work.tar").write_bytes(tar_of(entry(names[0], target), *several))
    return str(tmp_path / "work.tar")


def test_hard_links_are_what_they_link_to(tmp_path: Path, work: Path) -> None:
    top = str(work).strip("/")
    strange = [
        entry(f"{top}/later", kind=tarfile.LNKTYPE, link=f"{top}/zzz"),
        entry(f"{top}/zzz", b"z"),
        entry(f"{top}/outside", kind=tarfile.LNKTYPE, link="etc/passwd"),
        entry(f"{top}/symbolic", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry(f"./{top}/same", kind=tarfile.LNKTYPE, link=f"{top}/symbolic"),
        entry(f"{top}/zzzz", kind=tarfile.LNKTYPE, link=f"./{top}//zzz"),
    ]
    (tmp_path / "work.tar").write_bytes(tar_of(*strange))
    change = difference(str(tmp_path / "work.tar"), str(work))
    assert change.special == (f"{top}/later", f"{top}/outside")
    assert {Path(f.path).name: f.content or f.link for f in change.files} == {
        "zzz": b"z",
        "symbolic": "/etc/passwd",
        "same": "/etc/passwd",
        "zzzz": b"z",
    }


def test_a_hard_link_costs_no_more_beside_many(tmp_path: Path, work: Path) -> None:
    def cost(links: int) -> int:
        path = linked(tmp_path, work, links)
        return lines_run(tarfile, lambda: difference(path, str(work)))

    assert cost(400) < 2.2 * cost(200)


def test_a_hard_link_counts_as_large_as_its_target(tmp_path: Path, work: Path) -> None:
    with pytest.raises(TreeError, match="is too large"):
        difference(linked(tmp_path, work, 256, bytes(BYTES_MAX >> 8), below=".git/"), str(work))


def test_the_seconds_begin_before_the_work_is_read(tmp_path: Path, work: Path) -> None:
    (tmp_path / "tests").mkdir()
    plan = Plan(str(work), (Command(("false",), "junit", 60.0, {}),), ("a.py::test",), (), ())
    (tmp_path / "tests/plan.json").write_text(plan.to_json())
    (tmp_path / "tests/environment.json").write_text("{}")
    now = iter([0.0, 31.0])
    scored = verifier.grade(str(tmp_path / "tests"), archive(tmp_path, work, {"new": b"x"}), seconds=30.0, clock=lambda: next(now))
    assert (scored.reward, [f.check for f in scored.integrity.findings if not f.ok]) == (0.0, [IN_TIME, "every command is run"])


def test_sealed_programs_and_links_are_put_in_place_as_such(work: Path) -> None:
    files = ("pkg/add.sh", "pkg/now.txt")
    plan = Plan(str(work), (), (), (), files, executable_files=files[:1], linked_files=files[1:])
    (work / "pkg/now.txt").symlink_to("same.py")
    verifier.apply(sealed_change(plan, {"files/pkg/add.sh": b"#!/bin/sh\necho 5\n", "files/pkg/now.txt": b"old.py"}), str(work))
    assert subprocess.run([work / "pkg/add.sh"], capture_output=True, check=True).stdout == b"5\n"
    assert (work / "pkg/now.txt").readlink() == Path("old.py")
    assert (work / "pkg/same.py").read_text() == "same"


def test_a_change_is_applied_through_no_link(tmp_path: Path, work: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (work / "out").symlink_to(outside)
    root = str(work).strip("/")
    with pytest.raises(PermissionError):
        verifier.apply(Change((ChangedFile(f"{root}/out/x", 0o644, content=b"x"),)), str(work))
    assert list(outside.iterdir()) == []
    with pytest.raises(PermissionError):
        verifier.apply(Change(deleted=(f"{root}/out/x",)), str(work))


def test_a_change_replaces_folders_files_and_links(work: Path) -> None:
    root = str(work).strip("/")
    (work / "link").symlink_to("pkg/same.py")
    files = (
        ChangedFile(f"{root}/link", 0o644, content=b"a file now"),
        ChangedFile(f"{root}/deep/er/x.sh", 0o755, content=b"x"),
        ChangedFile(f"{root}/pkg", 0o644, content=b"no folder"),
    )
    verifier.apply(Change(files, deleted=(f"{root}/pkg/old.py",)), str(work))
    assert (work / "link").read_text() == "a file now"
    assert (work / "deep/er/x.sh").stat().st_mode & 0o777 == 0o755
    assert (work / "pkg").read_text() == "no folder"


def test_the_archive_is_reproducible_and_stands_alone() -> None:
    data = verifier_archive.build()
    assert data == verifier_archive.build()
    assert b"pydantic" not in data


def test_a_grading_that_fails_leaves_no_reward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tests").mkdir()
    assert verifier.main(["--tests", str(tmp_path / "tests"), "--out", str(tmp_path / "out")]) == 2
    assert "plan.json" in capsys.readouterr().err
    assert not (tmp_path / "out/reward.json").exists()
