"""A farm that is killed again and again, each time at another bad moment, still brings every episode to exactly one outcome."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.sql import open_sqlite
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import HeldClock, make_scored
from tests.integration.pool_process import SPECS

ROOT = Path(__file__).parents[2]


def farm_process(home: Path, point: str, times: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.integration.pool_process", str(home), point, str(times)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
async def test_a_farm_killed_at_its_worst_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    deaths = [
        ("box create", 2),
        ("journal write", 9),
        ("outcome commit", 1),
        ("journal write", 15),
        ("outcome commit", 4),
        ("box create", 3),
    ]
    for point, times in deaths:
        died = farm_process(tmp_path, point, times)
        assert died.returncode == -signal.SIGKILL, died.stderr
    last = farm_process(tmp_path, "never", 1)
    assert (last.returncode, last.stdout) == (0, "complete\n"), last.stderr
    again = farm_process(tmp_path, "box create", 1)
    assert (again.returncode, again.stdout) == (0, "complete\n"), "a complete run makes no box"

    episodes = SqlEpisodes(open_sqlite(tmp_path / "farm.db"), HeldClock())
    ids = [s.episode_id for s in SPECS]
    assert await episodes.outcomes(ids) == dict.fromkeys(ids, make_scored(1.0))
    await episodes.close()
    trajectories = FileTrajectories(tmp_path / "trajectories")
    resumed = 0
    for episode in ids:
        told = await trajectories.read(episode)
        assert [s.index for s in told.steps] == [0, 1, 2]
        assert told.end is not None
        assert told.end.outcome == make_scored(1.0)
        resumed += "replayed and agreed" in told.header.started_because
    assert resumed > 0, "no death fell into the middle of an episode: the moments above test nothing"
    assert list((tmp_path / "owners").iterdir()) == []
