"""The example that learns, in a short version: few tasks, minted, served and graded as by a person who runs it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

LOOP = Path(__file__).parents[3] / "examples" / "trainer_loop.py"
FEW = ("--training", "3", "--held-out", "1", "--steps", "50")
CHANCE = 1 / 8
pytestmark = [pytest.mark.network, pytest.mark.size, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def minted_home() -> Iterator[Path]:
    """Of all runs, so that the first alone mints and grades. Not below pytest's own directory: boxes of other users must see the layers."""
    home = Path(tempfile.mkdtemp(prefix="envfarm-test-", dir="/var/tmp"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


def success_of(home: Path, *options: str) -> tuple[float, float]:
    """Success at the end, on training and on held-out tasks."""
    argv = ["env", f"ENVFARM_HOME={home}", sys.executable, str(LOOP), *FEW, *options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=1000)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 0, out + err
    found = re.search(r"^seed 0: training [\d.]+ → ([\d.]+), held-out [\d.]+ → ([\d.]+)", out, re.MULTILINE)
    assert found is not None, out + err
    return float(found[1]), float(found[2])


def test_it_learns_and_not_from_shuffled_rewards_and_what_is_invalid_changes_nothing(minted_home: Path) -> None:
    learned, carried_over = success_of(minted_home)
    assert learned > 0.9
    assert carried_over > 2 * CHANCE
    misled, _ = success_of(minted_home, "--shuffle-rewards")
    assert misled < 2 * CHANCE
    in_spite, _ = success_of(minted_home, "--inject-invalid", "0.2")
    assert in_spite > 0.9
