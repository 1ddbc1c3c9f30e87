"""This machine's own interpreters, placed for real."""

import subprocess
from pathlib import Path

import pytest

from envfarm.images.toolchains import Toolchains


def test_a_placed_interpreter_runs_and_is_placed_once(tmp_path: Path) -> None:
    store = Toolchains(tmp_path / "store")
    outside_usr = [found for found in store.available() if not found.in_usr]
    if not outside_usr:
        pytest.skip("every interpreter of this machine is below /usr: nothing to place")
    name = store.place_found(outside_usr[-1])
    assert name is not None
    program = tmp_path / "store" / name / "bin" / f"python{outside_usr[-1].minor}"
    first = program.stat().st_ino
    assert subprocess.run([program, "-I", "-c", "import ssl, json; print(1)"], check=True, capture_output=True).stdout == b"1\n"
    assert store.place_found(outside_usr[-1]) == name
    assert program.stat().st_ino == first
