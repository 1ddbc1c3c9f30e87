"""Append-only lines: whole after deaths and full disks, whoever writes."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envfarm.core.errors import StoreError
from envfarm.stores import json_lines

LINES = [b"1", b'{"a": "\xc3\xa9"}', b"x" * 70_000, b""]


def test_what_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert list(json_lines.read(tmp_path / "none")) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(cut=st.integers(0, 70_100), durable=st.booleans(), shared=st.booleans())
def test_a_torn_tail_is_left_out_and_then_replaced(tmp_path: Path, cut: int, durable: bool, shared: bool) -> None:  # noqa: FBT001 - hypothesis
    path = tmp_path / "deep" / "lines"
    path.unlink(missing_ok=True)
    whole = b"".join(line + b"\n" for line in LINES)
    assert json_lines.append(path, whole, durable=durable, shared=shared) == len(whole)
    assert list(json_lines.read(path)) == LINES
    path.write_bytes(whole[: len(whole) - cut])
    left = whole[: len(whole) - cut].split(b"\n")[:-1]
    assert list(json_lines.read(path)) == left
    json_lines.append(path, b"next\n", durable=durable, shared=shared)
    assert list(json_lines.read(path)) == [*left, b"next"]


def test_who_wrote_last_finds_out_that_somebody_else_has(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    end = json_lines.append(path, b"mine\n")
    with path.open("ab") as file:
        file.write(b"torn")
    end = json_lines.append(path, b"mine\n", at=end)
    json_lines.append(path, b"other\n")
    with pytest.raises(StoreError, match="another process goes on"):
        json_lines.append(path, b"mine\n", at=end)
    assert list(json_lines.read(path)) == [b"mine", b"mine", b"other"]


def test_a_last_line_that_is_not_sound_is_replaced_and_no_line_before_it(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"bad\ngood\nbad\n")
    json_lines.append(path, b"good\n", is_sound=lambda line: line == b"good")
    json_lines.append(path, b"good\n", is_sound=lambda line: line == b"good")
    assert path.read_bytes() == b"bad\ngood\ngood\ngood\n"


def test_a_write_that_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from envfarm.stores import json_lines
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
json_lines.append(Path({str(tmp_path)!r}) / "lines", b"x" * 79 + b"\\n")
json_lines.append(Path({str(tmp_path)!r}) / "lines", b"y" * 79 + b"\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert (tmp_path / "lines").read_bytes() == b"x" * 79 + b"\n"


def test_processes_that_share_a_file_lose_none_of_each_others_lines(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from envfarm.stores import json_lines
for n in range(200):
    json_lines.append(Path({str(tmp_path)!r}) / "lines", f"{{sys.argv[1]}} {{n}} {{'x' * 500}}\\n".encode(), durable=False, shared=True)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, name], cwd=Path(__file__).parents[3]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    heads = [line.split()[:2] for line in json_lines.read(tmp_path / "lines")]
    for name in (b"a", b"b", b"c"):
        assert [n for who, n in heads if who == name] == [b"%d" % n for n in range(200)]
