"""A build that dies before it writes down what became of a record still finishes every record once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import evidence

ROOT = Path(__file__).parents[2]
# The stages of the pipeline's own tests: records whose number is divisible by 3 or 5 are rejected, the others become tasks.
BUILD = """
import asyncio, sys
from pathlib import Path
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.testing.faults import DieAt
from task_builders.journal import Journal
from task_builders.pipeline import NamedSource, Pipeline
from tests.unit.task_builders.number_stages import NumberStages, record

home, times = Path(sys.argv[1]), int(sys.argv[2])
catalogue = TaskCatalogue(home / "catalogue")
with Journal(home / "journal", faults=DieAt("journal write", times)) as journal:
    pipeline = Pipeline(NumberStages(), catalogue, journal, provider="local")
    asyncio.run(pipeline.run([NamedSource("numbers", lambda: [record(n) for n in range(1, 21)])], parallel=3))
catalogue.close()
"""


def build(home: Path, times: int) -> int:
    home.mkdir(exist_ok=True)
    argv = [sys.executable, "-c", BUILD, str(home), str(times)]
    return subprocess.run(argv, cwd=ROOT, timeout=60, check=False).returncode


@pytest.mark.slow
def test_every_record_is_finished_once_however_often_the_journal_dies(tmp_path: Path) -> None:
    alone, home = tmp_path / "alone", tmp_path / "home"
    assert build(alone, 0) == 0
    expected = evidence.journal_verdicts(alone / "journal")
    assert len(expected) == 20
    assert evidence.catalogue(alone / "catalogue", alone / "journal") == []
    for times in (2, 3):
        assert build(home, times) == -signal.SIGKILL
    assert evidence.journal_verdicts(home / "journal") != expected, "the deaths came too late to show anything"
    assert build(home, 0) == 0
    assert evidence.build_journal(home / "journal", expected) == []
    assert evidence.catalogue(home / "catalogue", home / "journal") == []
