"""A small storm: farms die at every named point and at random moments, beside two that live, and nothing is lost, doubled or left."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def storm(*options: str) -> str:
    argv = [sys.executable, "-m", "tests.chaos", *options]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_runs_survive_a_storm() -> None:
    said = storm("--parts", "run", "--episodes", "12", "--kills", "3", "--seed", "3")
    assert said.count("killed: ") == 15


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.timeout(600)
def test_builds_survive_a_storm() -> None:
    said = storm("--parts", "build", "--build-kills", "1", "--seed", "3")
    assert said.count("killed: ") == 9
