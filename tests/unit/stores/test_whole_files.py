"""A file is there whole or not at all, and the dead's halves are told from the living's."""

import fcntl
import os
import stat
from pathlib import Path

import pytest

from envfarm.stores import whole_files


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "a/b"
    whole_files.write(target, b"one", mode=0o600)
    whole_files.write(target, b"two", mode=0o600)
    assert target.read_bytes() == b"two"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["b"]


def test_a_file_that_cannot_take_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken/inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        whole_files.write(tmp_path / "taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_halves_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    for name in (".new-dead", ".new-alive", "whole"):
        (tmp_path / name).touch()
    with (tmp_path / ".new-alive").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert whole_files.collect(tmp_path.iterdir()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-alive", "whole"]


def test_a_link_is_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (tmp_path / ".new-1").symlink_to(tmp_path / "precious")
    assert whole_files.collect(tmp_path.iterdir()) == 0
    assert os.listdir(tmp_path)  # noqa: PTH208 - order does not matter
    assert (tmp_path / "precious").exists()
