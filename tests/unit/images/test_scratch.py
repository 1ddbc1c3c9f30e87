"""Scratch directories go with their block, and the dead's with the next look."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def python(code: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    """With a directory for temporary files of its own."""
    env = {"TMPDIR": str(temporary), "PATH": os.defpath}
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_a_directory_goes_with_its_block_and_a_living_ones_stays(tmp_path: Path) -> None:
    code = (
        "from envfarm.images.scratch import collect, scratch_directory\n"
        "with scratch_directory() as place:\n    (place / 'x').touch()\n    print(collect(), (place / 'x').exists())\n"
    )
    assert python(code, tmp_path).stdout == "0 True\n"
    assert list(tmp_path.iterdir()) == []


def test_a_killed_makers_directory_is_removed(tmp_path: Path) -> None:
    code = (
        "import os; from envfarm.images.scratch import scratch_directory\n"
        "with scratch_directory() as place:\n    (place / 'x').touch(); os.kill(os.getpid(), 9)\n"
    )
    assert python(code, tmp_path).returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert python("from envfarm.images.scratch import collect; print(collect())", tmp_path).stdout == "1\n"
    assert list(tmp_path.iterdir()) == []
