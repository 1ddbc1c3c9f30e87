"""A small storm: farms die at every named point and at random moments, beside two that live, and nothing is lost, doubled or left.

The whole one, builds included: `python -m tests.chaos --episodes 200 --kills 20`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import runs

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_runs_survive_a_storm() -> None:
    argv = [sys.executable, "-m", "tests.chaos", "--parts", "run", "--episodes", "8", "--kills", "2", "--longest-s", "3", "--seed", "3"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("killed: ") == len(runs.POINTS) + 2
