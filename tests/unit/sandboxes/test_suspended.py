"""What the kernel tells of processes that something has stopped or frozen."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from envfarm.sandboxes.suspended import is_suspended


def test_a_process_is_suspended_while_a_signal_stops_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            assert not is_suspended([process.pid])
            os.kill(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            assert is_suspended([os.getpid(), process.pid])
            os.kill(process.pid, signal.SIGCONT)
            os.waitid(os.P_PID, process.pid, os.WCONTINUED)
            assert not is_suspended([process.pid])
        finally:
            process.kill()
    assert not is_suspended([process.pid])


@pytest.mark.parametrize(
    ("line", "file", "frozen", "thawed"),
    [
        ("0::/a/b", "a/b/cgroup.events", "populated 1\nfrozen 1\n", "populated 1\nfrozen 0\n"),
        ("7:cpu,freezer:/a", "freezer/a/freezer.state", "FROZEN\n", "THAWED\n"),
        ("7:freezer:/a", "freezer/a/freezer.state", "FREEZING\n", "THAWED\n"),
    ],
)
def test_a_process_is_suspended_while_its_control_group_is_frozen(tmp_path: Path, line: str, file: str, frozen: str, thawed: str) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/stat").write_text("7 (a) b) D 1 1")
    (tmp_path / "proc/7/cgroup").write_text(f"3:pids:/a\n{line}\n")
    state = tmp_path / "groups" / file
    state.parent.mkdir(parents=True)
    for text, expected in ((frozen, True), (thawed, False)):
        state.write_text(text)
        assert is_suspended([7], proc=tmp_path / "proc", groups=tmp_path / "groups") is expected
