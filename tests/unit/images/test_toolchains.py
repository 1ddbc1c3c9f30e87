"""Interpreters count when they were run; what is placed is a copy without its user's packages."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.errors import ImageError
from envfarm.images.prefix_copy import OWN, copy_prefix
from envfarm.images.toolchains import Interpreter, Toolchains, fits, probe, usable


def said(version: tuple[int, int, int], prefix: str = "/opt/py", **other: Any) -> dict[str, Any]:
    works = {"final": True, "implementation": "cpython", "ssl": True, "venv": True, "zlib": True}
    return {"version": list(version), "prefix": prefix, **works, **other}


def test_one_of_each_version_oldest_first_by_number() -> None:
    found = usable([said((3, 12, 1)), None, said((3, 9, 18)), said((3, 12, 1), "/usr"), said((3, 10, 2), "/a"), said((3, 10, 13), "/b")])
    assert [(i.version, str(i.prefix)) for i in found] == [("3.9.18", "/opt/py"), ("3.10.2", "/a"), ("3.10.13", "/b"), ("3.12.1", "/usr")]


@pytest.mark.parametrize(
    "bad", [{"implementation": "pypy"}, {"final": False}, {"zlib": False}, {"version": [2, 7, 18]}, {"version": [3, 5, 0]}]
)
def test_what_cannot_serve_is_not_counted(bad: dict[str, Any]) -> None:
    assert usable([said((3, 11, 0), **{k: v for k, v in bad.items() if k != "version"}) | bad]) == ()


def test_a_minor_version_names_its_patches() -> None:
    assert fits("3.11.7", "3.11")
    assert fits("3.11.7", "3.11.7")
    assert not fits("3.11.7", "3.1")
    assert not fits("3.1.1", "3.11")


def test_where_a_box_sees_them() -> None:
    placed = Interpreter("3.11.7", Path("/home/ann/.pyenv/versions/3.11.7"), ssl=True, venv=True)
    system = Interpreter("3.11.2", Path("/usr"), ssl=True, venv=False)
    assert Interpreter("3.11.7", Path("/usr/local"), ssl=True, venv=True).box_prefix == "/opt/python-3.11.7", "the machine's own business"
    assert (placed.name, placed.box_executable) == ("python-3.11.7", "/opt/python-3.11.7/bin/python3.11")
    assert (system.name, system.box_executable) == (None, "/usr/bin/python3.11")


def test_this_interpreter_answers_and_others_do_not(tmp_path: Path) -> None:
    answer = probe(Path(sys.executable))
    assert answer is not None
    assert answer["version"] == list(sys.version_info[:3])
    liar = tmp_path / "python3"
    liar.write_text("#!/bin/sh\necho not json\n")
    liar.chmod(0o755)
    assert probe(liar) is None
    assert probe(tmp_path / "missing") is None


def test_a_version_that_is_not_here_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"Python 3\.6\.99 is not on this machine"):
        Toolchains(tmp_path, user_home=tmp_path).place("3.6.99")


def test_what_cannot_be_downloaded_is_asked_for_once(tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\nexit 1\n")
    uv.chmod(0o755)
    for _ in range(2):
        assert Toolchains(tmp_path / "store", user_home=tmp_path, uv=uv, downloads=True).find("3.6.99") is None
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A made-up installation."""
    root = tmp_path / "pyenv/3.11.0"
    lib = root / "lib/python3.11"
    texts = {
        "lib/python3.11/os.py": "# os\n",
        "lib/python3.11/site-packages/secret.py": "token\n",
        "lib/python3.11/test/test_os.py": "",
        "lib/python3.11/test/support/__init__.py": "# used by projects\n",
        "lib/python3.11/_sysconfigdata_x.py": f"prefix = '{root}'\n",
        "lib/libpython3.11.a": "static",
        "bin/pip3": "#!/x",
        "bin/python3.11": f"\x7fELF {root}/lib\0 rest",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "bin/python3.11").chmod(0o755)
    (root / "bin/python3").symlink_to(root / "bin/python3.11")
    (root / "lib/libz.so").symlink_to(tmp_path / "outside.so")
    (tmp_path / "outside.so").write_text("library")
    (lib / "os.py").chmod(0o600)
    return root


def test_a_copy_is_small_readable_and_free_of_its_old_place(prefix: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.mkdir()
    copy_prefix(prefix, target, minor="3.11", box_prefix="/opt/python-3.11.0")
    files = {str(p.relative_to(target)) for p in target.rglob("*") if not p.is_dir()}
    assert files == {
        "bin/python3", "bin/python3.11", "lib/libz.so", "lib/python3.11/os.py",
        "lib/python3.11/_sysconfigdata_x.py", "lib/python3.11/test/support/__init__.py",
    }  # fmt: skip
    assert os.readlink(target / "bin/python3") == "python3.11"  # noqa: PTH115 - its text matters
    assert (target / "lib/python3.11/_sysconfigdata_x.py").read_text() == "prefix = '/opt/python-3.11.0'\n"
    assert (target / "lib/python3.11/os.py").stat().st_mode & 0o777 == 0o644
    assert (prefix / "lib/python3.11/os.py").stat().st_mode & 0o777 == 0o600, "the original is as it was"
    assert b"$ORIGIN/../lib\0" in (target / "bin/python3.11").read_bytes()
    assert str(prefix).encode() not in (target / "bin/python3.11").read_bytes()
    assert b"$ORIGIN" not in (prefix / "bin/python3.11").read_bytes()


def test_of_a_prefix_that_others_share_one_versions_files_are_taken() -> None:
    own = re.compile(OWN.format(minor=re.escape("3.12")))
    theirs = [
        "bin",
        "bin/python3.12",
        "lib",
        "lib/python3.12",
        "lib/python3.12/os.py",
        "lib/libpython3.12.so.1.0",
        "include/python3.12/Python.h",
    ]
    theirs.append("lib/pkgconfig/python-3.12.pc")
    others = ["go", "bin/node", "lib/node_modules", "lib/python3.11", "lib/libpython3.11.so.1.0", "include/node", "sbin", "lib/libfoo.so"]
    assert [path for path in (*theirs, *others) if own.fullmatch(path)] == theirs
