"""`envfarm serve` in the storm: killed at each named point and at random moments, or asleep past its lease, under three trainers."""

import json
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from envfarm.testing.served import free_port
from tests.chaos import evidence
from tests.chaos.ground import FARM_S, ROOT, Ground

POINTS = (
    ("rollout submit", 1),
    ("rollout submit", 2),
    ("episode claim", 1),
    ("layer build", 1),
    ("layer build", 2),
    ("box create", 1),
    ("box create", 2),
    ("box create", 5),
    ("journal write", 1),
    ("journal write", 7),
    ("outcome commit", 1),
    ("outcome commit", 4),
    ("result lease", 1),
    ("acknowledge", 1),
    ("acknowledge", 2),
)
"""Where services die, and at which reach."""
TRAINERS = 3
GROUP = 4
LEASE_S = 2.0
AT_ONCE = 4


def storm(ground: Ground, *, episodes: int, kills: int, sleeps: int) -> str:
    """So many kills and sleeps at random moments, spread over the episodes, besides those at named points. What was played, in words."""
    ground.prepare()
    task = ground.put_task()
    database = ground.settings.runs / "episodes.sqlite"
    evidence.put_witness(database)
    ground.invite()
    token, port = ground.directory / "token", free_port()
    token.write_text(secrets.token_urlsafe(32))
    groups = -(-episodes // (GROUP * TRAINERS))
    words = ["serve", "--token-file", str(token), "--lease", str(LEASE_S), "--episodes", str(AT_ONCE)]
    at_port = [*words, "--port", str(port)]
    with _trainers(ground, f"http://127.0.0.1:{port}", token, task, groups):
        for point, times in POINTS:
            ground.kill_at(point, times, at_port)
        harms = ["kill"] * kills + ["sleep"] * sleeps
        ground.random.shuffle(harms)
        first = _committed(database)
        for number, harm in enumerate(harms):
            share = first + (groups * GROUP * TRAINERS - first) * number // len(harms)
            if harm == "kill":
                _kill(ground, at_port, database, share)
            else:
                _sleep(ground, at_port, words, database, share)
        dead = _leases(database)
        with ground.living(at_port, signal.SIGTERM, "the last service"):
            _wait(lambda: bool(_leases(database) - dead) and not dead & _leases(database), ground, "the last service took over nothing")
            _wait(lambda: _acknowledged(database) >= groups * TRAINERS, ground, "the trainers had not all of their groups")
    told = _told(ground)
    ground.complaints += evidence.groups(database, told, groups=groups * TRAINERS, size=GROUP)
    for rollout in {line["rollout"] for line in told if line["what"] == "asked"}:
        ground.complaints += evidence.trajectories(ground.settings.runs / "trajectories", database, rollout)
        ground.complaints += [f"{episode}: {said}" for episode, said in evidence.attempts(database, rollout).items()]
    ground.judge_left_overs()
    return f"{_committed(database)} episodes for {TRAINERS} trainers"


def _kill(ground: Ground, words: list[str], database: Path, share: int) -> None:
    """A service that plays until so many episodes are over, and a random moment more."""
    more_s = ground.random.uniform(0.05, ground.longest_s / 2)
    with ground.living(words, signal.SIGKILL, f"serve, {more_s:.2f} s after episode {share}"):
        _wait(lambda: _committed(database) >= share, ground, f"episode {share} was not reached")
        time.sleep(more_s)


def _sleep(ground: Ground, words: list[str], others: list[str], database: Path, share: int) -> None:
    """A service that stands still past its lease, while another plays on; then both play, and the other is killed."""
    how = f"serve, asleep past its lease after episode {share}"
    with ground.living(words, signal.SIGKILL, how) as sleeper:
        _wait(lambda: _committed(database) >= share, ground, f"episode {share} was not reached")
        time.sleep(ground.random.uniform(0.05, ground.longest_s / 2))
        with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as alone:
            alone.execute("BEGIN IMMEDIATE")  # who sleeps with the lock of SQLite holds up everybody: see docs/hosts.md
            sleeper.send_signal(signal.SIGSTOP)
            held = _leases(database)
            alone.execute("ROLLBACK")
        with ground.living([*others, "--port", "0"], signal.SIGKILL, f"the other, beside {how}"):
            _wait(lambda: not held & _leases(database), ground, f"nobody took over from {how}")
            sleeper.send_signal(signal.SIGCONT)
            time.sleep(ground.random.uniform(0.5, ground.longest_s))


@contextmanager
def _trainers(ground: Ground, url: str, token: Path, task: str, groups: int) -> Iterator[None]:
    trainers = []
    for number in range(TRAINERS):
        name = f"trainer-{number}"
        argv = [sys.executable, "-m", "tests.chaos.trainer", url, str(token), name, task, str(groups), str(GROUP)]
        with (ground.directory / name).open("wb") as said, (ground.directory / f"{name}.err").open("wb") as err:
            env = ground.env(ground.directory / "nobody")
            trainers.append((name, subprocess.Popen(argv, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=said, stderr=err)))
    try:
        yield
    finally:
        for name, process in trainers:
            process.communicate(timeout=FARM_S)
            if process.returncode != 0:
                ground.complaints.append(f"{name} ended with {process.returncode}: see {name}.err")


def _told(ground: Ground) -> list[dict[str, Any]]:
    """What the trainers said."""
    files = [ground.directory / f"trainer-{number}" for number in range(TRAINERS)]
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def _wait(until: Callable[[], bool], ground: Ground, complaint: str) -> None:
    end = time.monotonic() + FARM_S
    while not until():
        if time.monotonic() > end:
            ground.complaints.append(complaint)
            return
        time.sleep(0.05)


def _committed(database: Path) -> int:
    return _count(database, "SELECT count(*) FROM outcomes")


def _acknowledged(database: Path) -> int:
    return _count(database, "SELECT count(*) FROM groups WHERE state = 'acknowledged'")


def _leases(database: Path) -> set[str]:
    """The hosts that nobody took over from."""
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return {host for (host,) in connection.execute("SELECT host FROM leases WHERE until > 0")}


def _count(database: Path, query: str) -> int:
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        return int(connection.execute(query).fetchone()[0])
