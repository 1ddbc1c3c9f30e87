"""A service that is killed at its worst moments, or sleeps past its lease, loses and doubles nothing."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import func, select

from envfarm.stores.episode_schema import EPISODES, EVENTS, GROUPS, OUTCOMES
from envfarm.stores.sql import open_sqlite
from envfarm.stores.trajectories import FileTrajectories
from tests.integration.service_process import MEMBERS, TASKS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def command(home: Path, point: str, times: int) -> list[str]:
    return [sys.executable, "-m", "tests.integration.service_process", str(home), point, str(times)]


def service(home: Path, point: str = "never", times: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(home, point, times), cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


def check_the_truth(home: Path) -> None:
    """Each outcome exactly once, each group whole and in one version: read from the database, not from the farm."""
    engine = open_sqlite(home / "farm.db")
    with engine.connect() as c:
        present = (EPISODES.c.group_id == GROUPS.c.id) & (EPISODES.c.round == GROUPS.c.round)
        rows = c.execute(select(EPISODES.c.id, EPISODES.c.state, GROUPS.c.version).join(GROUPS, present)).all()
        assert Counter(row.state for row in rows) == {"done": TASKS * MEMBERS}
        assert {row.version for row in rows} == {0}
        assert c.scalar(select(func.count()).select_from(OUTCOMES)) == TASKS * MEMBERS
        ended = Counter(c.scalars(select(EVENTS.c.body).where(EVENTS.c.kind == "ended")))
        assert len(ended) == TASKS * MEMBERS
        assert set(ended.values()) == {1}
        assert c.scalar(select(func.count()).where(GROUPS.c.state == "acknowledged")) == TASKS
    engine.dispose()
    trajectories = FileTrajectories(home / "trajectories")
    for row in rows:
        told = asyncio.run(trajectories.read(row.id))
        assert [s.index for s in told.steps] == [0, 1]
        assert told.end is not None
    assert list((home / "owners").glob("*.lock")) == []


def test_killed_at_every_named_point_and_gone_on_with(tmp_path: Path) -> None:
    first = [("rollout submit", 1), ("episode claim", 1), ("box create", 2), ("journal write", 7), ("outcome commit", 1)]
    first += [("result lease", 1), ("acknowledge", 1)]
    said: list[str] = []
    for point, times in first:
        died = service(tmp_path, point, times)
        assert died.returncode == -signal.SIGKILL, (point, died.stdout, died.stderr)
        said += died.stdout.splitlines()
    for point, times in [("outcome commit", 4), ("acknowledge", 2), ("journal write", 5), ("box create", 2)]:
        died = service(tmp_path, point, times)  # by now it may be done before it comes to that
        assert died.returncode in {0, -signal.SIGKILL}, (point, died.stdout, died.stderr)
        said += died.stdout.splitlines()
    last = service(tmp_path)
    assert last.returncode == 0, last.stderr
    said += last.stdout.splitlines()
    check_the_truth(tmp_path)
    had = [line.split()[1:] for line in said if line.startswith("had ")]
    assert len({group for group, *_ in had}) == TASKS
    assert {tuple(shape) for _, *shape in had} == {("0", "True", str(MEMBERS))}
    for group in (line.split()[1] for line in said if line.startswith("acknowledged ")):
        after = said[said.index(f"acknowledged {group}") + 1 :]
        assert not any(group in line for line in after), "whoever acknowledged a group never got it again"


async def test_a_service_that_sleeps_past_its_lease_is_fenced(tmp_path: Path) -> None:
    sleeper = await asyncio.create_subprocess_exec(
        *command(tmp_path, "stop", 5), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        await asyncio.to_thread(os.waitid, os.P_PID, sleeper.pid, os.WSTOPPED | os.WNOWAIT)
        other = await asyncio.to_thread(service, tmp_path)
        assert other.returncode == 0, other.stderr
        os.kill(sleeper.pid, signal.SIGCONT)
        out, err = await asyncio.wait_for(sleeper.communicate(), 60)
        assert (sleeper.returncode, out.decode().splitlines()[-1]) == (0, "complete"), err.decode()
    finally:
        if sleeper.returncode is None:
            sleeper.kill()
    await asyncio.to_thread(check_the_truth, tmp_path)
