"""A person takes a task out of what is handed out, says why, and lets it back in."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from envfarm.cli.tasks import tasks
from envfarm.core.errors import UsageError
from envfarm.stores.catalogue import TaskCatalogue
from tests.unit.stores.test_catalogue import make_report, make_task


@pytest.fixture
async def home(tmp_path: Path) -> Path:
    catalogue = TaskCatalogue(tmp_path / "catalogue")
    await catalogue.add(make_task())
    await catalogue.add_report(make_report(make_task()))
    catalogue.close()
    return tmp_path


def test_quarantine_and_its_end(home: Path) -> None:
    def said(*words: str) -> str:
        done = CliRunner(env={"ENVFARM_HOME": str(home)}).invoke(tasks, words, catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    said("quarantine", "rockets", "--why", "its tests ask for a colour")
    assert "no task matches" in said("list")
    assert "rockets" in said("list", "--state", "quarantined")
    assert "quarantined: its tests ask for a colour" in said("show", "rockets")
    said("quarantine", "rockets", "--lift")
    assert "rockets" in said("list")
    for words in ((), ("--lift",), ("--lift", "--why", "both")):
        with pytest.raises(UsageError):
            said("quarantine", "rockets", *words)


def test_a_quarantine_outlives_the_index(home: Path) -> None:
    def said(*words: str, status: int = 0) -> str:
        done = CliRunner(env={"ENVFARM_HOME": str(home)}).invoke(tasks, words, catch_exceptions=False)
        assert done.exit_code == status
        return done.output

    said("quarantine", "rockets", "--why", "its tests ask for a colour")
    for path in (home / "catalogue").glob("index.sqlite*"):
        path.unlink()
    assert "1 missing tasks and 0 missing datasets were added" in said("reindex")
    assert "quarantined: its tests ask for a colour" in said("show", "rockets")
    assert "0 missing tasks" in said("reindex")
    (sidecar,) = (home / "catalogue/archives").glob("*/*.json")
    for content, words, status in ((b"", f"{sidecar}", 1), (None, "1 of these tasks are unchecked", 0)):
        for path in (home / "catalogue").glob("index.sqlite*"):
            path.unlink()
        sidecar.unlink() if content is None else sidecar.write_bytes(content)
        assert words in said("reindex", status=status).replace("\n", "")
        assert "unchecked" in said("list", "--state", "any")
