"""The search for lines of a fix, over real files: which places are searched, which are not, and paths with any name."""

import sys
import zipfile
from pathlib import Path

import pytest

from envfarm.core.errors import GraderError
from envfarm.testing.scripted_box import ScriptedBox
from task_builders.validation import leak
from tests.unit.task_builders.machine_box import machine_box

LINES = ("return list(range(start, -1, -1))", "raise ValueError('no fuel is left')")
TEXT = "\n".join(LINES)


@pytest.fixture
def box() -> ScriptedBox:
    return machine_box()


def write(path: Path, text: str = TEXT) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


async def search(box: ScriptedBox, monkeypatch: pytest.MonkeyPatch, place: Path, *passed_over: str) -> dict[str, list[str]]:
    monkeypatch.setattr(leak, "PLACES", (str(place),))
    seen = await leak.search(box, lines=LINES, packages=[], work_dir=str(place / "testbed"), python=sys.executable, passed_over=passed_over)
    found: dict[str, list[str]] = seen["files_with_fix_lines"]
    return found


async def test_paths_of_any_name_are_told_whole(box: ScriptedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [write(tmp_path / name) for name in ("a:b/c.py", "with space.py", "two\nlines.py", "testbed/old.py")]
    write(tmp_path / "one.py", LINES[0])
    found = await search(box, monkeypatch, tmp_path)
    assert {path: set(lines) for path, lines in found.items()} == {path: set(LINES) for path in odd}


async def test_only_what_is_passed_over_is(box: ScriptedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = write(tmp_path / "opt/python-3.11/lib/a.py")
    leaked = write(tmp_path / "testbed/build/python-3.11/lib/a.py")
    assert set(await search(box, monkeypatch, tmp_path, f"{tmp_path}/opt/python-3.11")) == {leaked}
    assert set(await search(box, monkeypatch, tmp_path)) == {leaked, library}


async def test_what_lies_in_archives_is_found(box: ScriptedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "opt/python-3.11/lib/ensurepip/installer's own-1.0.whl"
    wheel.parent.mkdir(parents=True)
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("installer/vendor/rockets.py", TEXT)
        archive.writestr("installer/other.py", "pass")
    write(tmp_path / "testbed/tests/none.zip", "no archive")
    broken = tmp_path / "testbed/tests/broken.zip"
    content = bytearray(wheel.read_bytes())
    start = 30 + len("installer/vendor/rockets.py")
    content[start : start + 15] = b"\xff" * 15  # no deflated text begins like this
    broken.write_bytes(content)
    found = await search(box, monkeypatch, tmp_path)
    assert {path: set(lines) for path, lines in found.items()} == {f"{wheel}!installer/vendor/rockets.py": set(LINES)}


async def test_a_search_that_breaks_is_no_proof(box: ScriptedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.py")
    programs = tmp_path / "bin"
    write(programs / "grep", "#!/bin/sh\nexit 2\n")
    (programs / "grep").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    with pytest.raises(GraderError, match="the search for the fix's lines"):
        await search(box, monkeypatch, tmp_path)


async def test_where_nothing_is_there_is_nothing_to_find(box: ScriptedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await search(box, monkeypatch, tmp_path) == {}
