"""Attacks must be as strong as a real attacker's, and must end: one that runs into its time limit proves nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from task_builders.validation.attacks import forgers

TESTS = """
import unittest

class Many(unittest.TestCase):
    def test_parts(self):
        for n in range(20):
            with self.subTest(n=n):
                unknown_name
    def test_denied(self):
        self.assertEqual(1, 2)
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("forger", [forgers.FORGIVE, forgers.TRY], ids=["forgive", "try"])
def test_a_forger_that_asks_a_test_again_is_not_asked_by_its_own_parts(tmp_path: Path, forger: str) -> None:
    text = forger.replace("@FILES@", "()").replace("@IDS@", "()").replace("@DIR@", repr(str(tmp_path)))
    for name in ("conftest.py", "second.py", "third.py"):  # an attack is in every module of the package
        (tmp_path / name).write_text(text)
    (tmp_path / "conftest.py").write_text("import second, third\n" + text)
    (tmp_path / "test_many.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "-c", "/dev/null"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
