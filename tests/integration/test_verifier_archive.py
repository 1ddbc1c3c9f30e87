"""The verifier archive, run as a program of its own, as Harbor's verifier container runs it."""

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.stores import task_dir
from envfarm.testing import small_task
from task_builders.formats import verifier_archive
from task_builders.languages.python import canaries

pytestmark = pytest.mark.skipif(os.geteuid() == 0, reason="as root the archive takes the uid of an agent, who cannot enter these folders")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The verifier's own tree, and the sealed tests beside it."""
    work = tmp_path / "work"
    for path, text in small_task.TREE.items():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(text)
    task = small_task.make(sys.executable)
    made = canaries.make({"tests/test_labels.py": small_task.NEW_TESTS.encode()}, task.plan.fail_to_pass, task.plan.pass_to_pass, seed="s")
    plan = replace(task.plan, work_dir=str(work), canaries=made.canaries)
    sealed = {**task.tests, **{f"canaries/{name}": text for name, text in made.templates.items()}}
    task_dir.write(
        task.model_copy(update={"plan": plan, "tests": sealed}), tmp_path / "task", {"tests/verifier.pyz": verifier_archive.build()}
    )
    return work


def verify(tmp_path: Path, work: Path, labels: str) -> dict[str, float]:
    left = tmp_path / "left" / str(work).strip("/")
    for path, text in {**small_task.TREE, "shelf/labels.py": labels, "tests/conftest.py": "raise SystemExit(1)\n"}.items():
        (left / path).parent.mkdir(parents=True, exist_ok=True)
        (left / path).write_text(text)
    with tarfile.open(tmp_path / "work.tar", "w") as tar:
        tar.add(tmp_path / "left", arcname=".")
    command = [sys.executable, "-I", str(tmp_path / "task/tests/verifier.pyz"), "--archive", str(tmp_path / "work.tar")]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    rewards: dict[str, float] = json.loads((tmp_path / "out/reward.json").read_text())
    return rewards


def test_the_solution_scores_1(tmp_path: Path, work: Path) -> None:
    assert verify(tmp_path, work, small_task.FIXED) == {"reward": 1.0, "f2p": 1.0, "p2p": 1.0, "integrity": 1.0}


def test_nothing_scores_0(tmp_path: Path, work: Path) -> None:
    assert verify(tmp_path, work, small_task.LABELS) == {"reward": 0.0, "f2p": 0.0, "p2p": 1.0, "integrity": 1.0}
