"""A small storm: farms die at every named point and at random moments, beside two that live, and nothing is lost, doubled or left.

The whole ones: `python -m tests.chaos --episodes 200 --kills 20`, and of a service alone with `--parts service --episodes 1000 --kills 50`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import runs, services

ROOT = Path(__file__).parents[2]


def storm(part: str, *more: str) -> str:
    argv = [sys.executable, "-m", "tests.chaos", "--parts", part, "--longest-s", "3", "--seed", "3", *more]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_runs_survive_a_storm() -> None:
    assert storm("run", "--episodes", "8", "--kills", "2").count("killed: ") == len(runs.POINTS) + 2


@pytest.mark.size
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_service_survives_a_storm_under_its_trainers() -> None:
    said = storm("service", "--episodes", "36", "--kills", "1", "--sleeps", "1")
    assert said.count("killed: ") == len(services.POINTS) + 3
