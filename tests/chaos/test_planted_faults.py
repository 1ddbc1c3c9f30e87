"""Each invariant of the storm fails when its fault is planted: a harness that cannot complain proves nothing."""

import fcntl
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.ids import RunId
from envfarm.core.outcome import Outcome
from envfarm.core.trajectory import End, Header
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.sql import open_sqlite
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import HeldClock, make_scored, make_spec, make_step
from tests.chaos import evidence, left_overs
from tests.chaos.ground import Ground

RUN = "storm-1"
SPECS = [make_spec(n, run=RUN, policy=PolicySpec(name=name)) for n, name in enumerate(["gold", "nop", "gold"])]
OUTCOMES: list[Outcome] = [make_scored(1.0), make_scored(0.0), make_scored(1.0)]
HEX = "ab" * 32


@pytest.fixture
async def finished(tmp_path: Path) -> Path:
    """A directory with the database and the records of a run that went well."""
    store = SqlEpisodes(open_sqlite(tmp_path / "episodes.sqlite"), HeldClock())
    await store.open()
    evidence.put_witness(tmp_path / "episodes.sqlite")
    await store.add_specs(SPECS)
    records = FileTrajectories(tmp_path)
    for spec, outcome in zip(SPECS, OUTCOMES, strict=True):
        await store.claim(RunId(RUN), "me")
        await records.append(spec.episode_id, header(spec))
        await records.append(spec.episode_id, make_step(0))
        await records.append(spec.episode_id, make_step(1))
        await records.append(spec.episode_id, end(outcome))
        assert await store.commit(spec.episode_id, outcome)
    await store.close()
    return tmp_path


def header(spec: EpisodeSpec) -> Header:
    return Header(episode=spec, environment_digest="sha256:0", instruction="", box="local:1", attempt=0, started_because="new")


def end(outcome: Outcome) -> End:
    return End(ended="finished", outcome=outcome, seconds=1.0)


def outcomes(directory: Path) -> list[str]:
    return evidence.outcomes(directory / "episodes.sqlite", RUN, len(SPECS))


def records(directory: Path) -> list[str]:
    return evidence.trajectories(directory, directory / "episodes.sqlite", RUN)


def test_a_run_that_went_well_draws_no_complaint(finished: Path) -> None:
    assert outcomes(finished) == []
    assert records(finished) == []


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("INSERT OR REPLACE INTO outcomes SELECT * FROM outcomes WHERE reward = 0", "was ['inserted', 'inserted']"),
        ("UPDATE outcomes SET reward = 1 WHERE reward = 0", "(nop) came to [('scored', 1.0)]"),
        ("UPDATE outcomes SET reward = 0, kind = 'invalid' WHERE reward = 1", "(gold) came to [('invalid', 0.0)]"),
        ("DELETE FROM outcomes WHERE reward = 0", "came to None"),
        ("UPDATE episodes SET state = 'running', owner = 'dead' WHERE member = 1", "is running, of dead"),
        ("UPDATE episodes SET run_id = 'other' WHERE member = 1", "has 2 episodes and not 3"),
    ],
    ids=["committed twice", "wrong reward", "invalid", "lost", "never finished", "never asked for"],
)
def test_a_wrong_outcome_is_told(finished: Path, planted: str, complaint: str) -> None:
    with closing(sqlite3.connect(finished / "episodes.sqlite")) as connection:
        connection.execute(planted)
        connection.commit()
    assert complaint in "\n".join(outcomes(finished))


async def test_a_record_that_ends_twice_or_has_a_gap_is_told(finished: Path) -> None:
    store = FileTrajectories(finished)
    await store.append(SPECS[0].episode_id, end(OUTCOMES[0]))
    path = store.path(SPECS[2].episode_id)
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(keepends=True) if b'"index":0' not in line))
    said = records(finished)
    assert len(said) == 2
    assert "ends with [1.0, 1.0]" in said[0]
    assert "has the steps [1]" in said[1]


@pytest.mark.parametrize(("reward", "complaints"), [(1.0, []), (0.5, [f"the record of {SPECS[0].episode_id} ends with [1.0, 0.5]"])])
async def test_a_host_that_had_lost_an_episode_may_have_ended_it_alike(finished: Path, reward: float, complaints: list[str]) -> None:
    store, (spec, *_) = FileTrajectories(finished), SPECS
    newest = store.path(spec.episode_id).read_bytes().replace(b'"epoch":0', b'"epoch":2', 1)
    store.path(spec.episode_id).write_bytes(newest)
    await store.append(spec.episode_id, header(spec))
    await store.append(spec.episode_id, end(make_scored(reward)))
    assert records(finished) == complaints


@pytest.fixture
def served(finished: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The same run as one group of a rollout, and what its trainer said."""
    with closing(sqlite3.connect(finished / "episodes.sqlite")) as connection:
        connection.execute("DELETE FROM outcomes WHERE reward = 0")
        connection.execute("DELETE FROM chaos_witness")
        connection.execute("INSERT INTO chaos_witness SELECT episode_id, 'inserted' FROM outcomes")
        connection.execute("UPDATE episodes SET group_id = 'g' WHERE member != 1")
        rollout = {"id": RUN, "tenant": "t", "asked": "", "request": "", "kind": "rollout", "policy": "p", "window": 1, "state": "done"}
        _insert(connection, "rollouts", rollout | {"created": 0, "events": 2})
        group = {"id": "g", "rollout_id": RUN, "tenant": "t", "task": "", "position": 0, "size": 2, "round": 0, "version": 3}
        _insert(connection, "groups", group | {"state": "acknowledged"})
        for number, (episode,) in enumerate(connection.execute("SELECT episode_id FROM outcomes").fetchall()):
            told = {"rollout_id": RUN, "number": number, "at": 0, "kind": "ended", "body": json.dumps({"episode": episode})}
            _insert(connection, "events", told)
        connection.commit()
    asked = {"what": "asked", "rollout": RUN, "policy": "gold"}
    had = {"what": "had", "group": "g", "rollout": RUN, "version": 3, "complete": True, "rewards": [1.0, 1.0]}
    return finished, [asked, had, {"what": "acknowledged", "group": "g"}]


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))  # noqa: S608


def groups(served: tuple[Path, list[dict[str, Any]]]) -> list[str]:
    return evidence.groups(served[0] / "episodes.sqlite", served[1], groups=1, size=2)


@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("INSERT OR REPLACE INTO outcomes SELECT * FROM outcomes LIMIT 1", "was ['inserted', 'inserted']"),
        ("UPDATE outcomes SET reward = 0", "came to [('scored', 0.0)]"),
        ("UPDATE episodes SET state = 'running', owner = 'dead' WHERE member = 0", "is running, of dead"),
        ("UPDATE episodes SET round = 1 WHERE member = 0", "is acknowledged with 1 members"),
        ("UPDATE groups SET state = 'ready'", "g is ready with 2 members"),
        ("UPDATE groups SET version = 4", "trainers had g (version 4) as [(3, True"),
        ("UPDATE events SET body = (SELECT body FROM events WHERE number = 0)", "told to have ended 2 times"),
        ("DELETE FROM groups", "0 groups are there, and 1 were asked for"),
    ],
    ids=["committed twice", "wrong reward", "never finished", "short", "never taken", "another version", "ended twice", "lost"],
)
def test_a_group_that_came_out_wrong_is_told(served: tuple[Path, list[dict[str, Any]]], planted: str, complaint: str) -> None:
    assert groups(served) == []
    with closing(sqlite3.connect(served[0] / "episodes.sqlite")) as connection:
        connection.execute(planted)
        connection.commit()
    assert complaint in "\n".join(groups(served))


def test_a_group_that_two_trainers_acknowledged_or_had_otherwise_is_told(served: tuple[Path, list[dict[str, Any]]]) -> None:
    directory, (asked, had, acknowledged) = served
    assert groups((directory, [asked, had, acknowledged, acknowledged])) == ["g was acknowledged 2 times"]
    assert "as []" in groups((directory, [asked, acknowledged]))[0]
    assert "False" in groups((directory, [asked, had | {"complete": False}, acknowledged]))[0]


def valid(record: str) -> dict[str, Any]:
    return {"kind": "valid", "source_digest": record, "task": f"sha256:{HEX}"}


def test_a_record_that_is_built_twice_or_judged_otherwise_is_told(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    rejected = {"kind": "rejected", "rejection": {"source_digest": "b", "gate": "states"}}
    expected = {"a": "valid", "b": "states"}
    write = "\n".join
    journal.write_text(write(map(json.dumps, (valid("a"), rejected))))
    assert evidence.build_journal(journal, expected) == []
    journal.write_text(write(map(json.dumps, (valid("a"), rejected, valid("a")))))
    assert evidence.build_journal(journal, expected) == ["the journal finishes a 2 times"]
    journal.write_text(json.dumps(valid("a")))
    assert len(evidence.build_journal(journal, expected)) == 1


def test_a_task_that_the_catalogue_lost_is_told(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_text(json.dumps(valid("a")))
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as connection:
        connection.executescript("CREATE TABLE tasks (source_digest, digest); CREATE TABLE reports (task, passed)")
        assert "the journal names" in evidence.catalogue(tmp_path, journal)[0]
        connection.execute("INSERT INTO tasks VALUES ('a', ?)", (f"sha256:{HEX}",))
        connection.commit()
        assert [said.partition(" has ")[2] for said in evidence.catalogue(tmp_path, journal)] == ["no passed report", "no archive"]
        connection.execute("INSERT INTO reports VALUES (?, 1)", (f"sha256:{HEX}",))
        connection.commit()
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / f"{HEX}.tar.zst").touch()
    assert evidence.catalogue(tmp_path, journal) == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that nothing was left in."""
    tree = tmp_path / "layers" / HEX / "tree"
    tree.mkdir(parents=True)
    (tree / "file").write_bytes(b"1234")
    (tree.parent / "meta.json").write_text('{"bytes": 4}')
    (tmp_path / "boxes").mkdir()
    (tmp_path / "runs/owners").mkdir(parents=True)
    return tmp_path


def _file(path: str) -> Callable[[Path], None]:
    def plant(home: Path) -> None:
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).touch()

    return plant


@pytest.mark.parametrize(
    ("plant", "complaint"),
    [
        (_file("boxes/0a-1/box.json"), "boxes/0a-1 is left"),
        (_file("boxes/.owner-0a/lock"), "boxes/.owner-0a is left"),
        (_file(f"layers/.new-{HEX}-1/tree/x"), "is half made"),
        (_file(f"layers/.lock-{HEX}"), "is a stale lock"),
        (_file("runs/owners/1-a.lock"), "is a stale lock"),
        (_file("blobs/aa/.new-1"), "is half made"),
        (lambda home: (home / "layers" / HEX / "tree/file").write_bytes(b"1"), "holds 1 bytes, and 4"),
        (lambda home: (home / "layers" / HEX / "meta.json").unlink(), "No such file"),
    ],
    ids=["box", "owner", "half layer", "layer lock", "owner lock", "half blob", "torn layer", "no note"],
)
def test_what_is_left_in_a_home_is_told(home: Path, plant: Callable[[Path], object], complaint: str) -> None:
    assert left_overs.in_home(home, frozenset()) == []
    plant(home)
    assert complaint in "\n".join(left_overs.in_home(home, frozenset()))


def test_an_empty_file_more_in_a_layer_is_not_missed(home: Path) -> None:
    _file(f"layers/{HEX}/tree/more/file2")(home)
    assert left_overs.in_home(home, frozenset()) == []


def test_what_is_a_neighbours_is_not_left(home: Path) -> None:
    for name in ("boxes/0a-1", f"layers/.new-{HEX}-1"):
        (home / name).mkdir()
    (home / "runs/owners/1-a.lock").touch()
    with (home / "runs/owners/2-b.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert left_overs.in_home(home, {"0a-1", f".new-{HEX}-1", "1-a.lock"}) == []


def test_left_control_groups_are_told(tmp_path: Path) -> None:
    for name in ("0a-1", "0b-1", "other-1"):
        (tmp_path / "memory/envfarm" / name).mkdir(parents=True)
    assert left_overs.in_groups({"0a", "0b"}, {"0b-1"}, root=tmp_path) == [f"{tmp_path}/memory/envfarm/0a-1 is left"]


def test_an_orphan_is_told() -> None:
    code = (
        "import subprocess, sys; from pathlib import Path; from tests.chaos import left_overs, processes; processes.become_reaper()\n"
        "subprocess.run(['sh', '-c', 'sleep 30 >/dev/null 2>&1 & echo $!'])\n"
        "print(left_overs.in_process_table(Path('/nowhere'), set(), patience_s=0))"
    )
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    pid, complaints = said.splitlines()
    os.kill(int(pid), signal.SIGKILL)
    assert complaints.startswith(f"['process {pid} is left: ")


@pytest.fixture
def ground() -> Iterator[Ground]:
    directory = Path(mkdtemp(prefix="envfarm-chaos-", dir="/var/tmp"))
    directory.chmod(0o755)
    made = Ground(directory, random.Random(1), 1.0)  # noqa: S311 - to be repeated, not secret
    yield made
    for neighbour in made.neighbours:
        neighbour.end()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.slow
def test_a_neighbour_that_is_hurt_is_heard(ground: Ground) -> None:
    ground.prepare()
    ground.invite()
    _, neighbour = ground.neighbours
    assert neighbour.complaints() == []
    half = next((ground.home / "layers").glob(".new-*"))
    half.rename(half.with_name("taken"))
    assert "was touched" in "".join(neighbour.complaints())
    half.with_name("taken").rename(half)
    with closing(sqlite3.connect(ground.settings.runs / "episodes.sqlite")) as connection:
        connection.execute("UPDATE episodes SET state = 'pending'")
        connection.commit()
    assert neighbour.complaints() == ["the farm in the same home: its running episode is ['pending']"]
