"""The search for lines of a fix, over real files: which places are searched, which are not, and paths with any name."""

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


async def search(box: ScriptedBox, monkeypatch: pytest.MonkeyPatch, place: Path, *machine: str) -> dict[str, list[str]]:
    monkeypatch.setattr(leak, "PLACES", (str(place),))
    seen = await leak.search(box, lines=LINES, packages=[], work_dir=str(place / "testbed"), machine=machine)
    found: dict[str, list[str]] = seen["files_with_fix_lines"]
    return found


async def test_paths_of_any_name_are_told_whole(box: ScriptedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [write(tmp_path / name) for name in ("a:b/c.py", "with space.py", "two\nlines.py", "testbed/old.py")]
    write(tmp_path / "one.py", LINES[0])
    found = await search(box, monkeypatch, tmp_path)
    assert {path: set(lines) for path, lines in found.items()} == {path: set(LINES) for path in odd}


async def test_only_the_machines_own_folder_is_passed_over(box: ScriptedBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The search starts at "/opt" if the directory is one of /opt's; here the machine's directory is placed below the search place.
    monkeypatch.setattr(leak, "MACHINE_PLACE", f"{tmp_path}/opt/")
    write(tmp_path / "opt/python-3.11/lib/a.py")
    leaked = write(tmp_path / "testbed/build/python-3.11/lib/a.py")
    assert set(await search(box, monkeypatch, tmp_path, f"{tmp_path}/opt/python-3.11")) == {leaked}


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
