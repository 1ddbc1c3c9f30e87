"""What the farm's files say became of every episode and record, read with nothing of the farm's own code.

Each function gives complaints; none means that all is well. A witness in the database (triggers that the harness puts there) tells of
every change to an outcome, so that a second commit shows even where it left the same row.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

DIED = "the farm's process died while it was played"
REWARDS = {"gold": 1.0, "nop": 0.0}
WITNESS = """
CREATE TABLE IF NOT EXISTS chaos_witness (episode_id TEXT NOT NULL, what TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS chaos_inserted AFTER INSERT ON outcomes
BEGIN INSERT INTO chaos_witness VALUES (NEW.episode_id, 'inserted'); END;
CREATE TRIGGER IF NOT EXISTS chaos_updated AFTER UPDATE ON outcomes
BEGIN INSERT INTO chaos_witness VALUES (OLD.episode_id, 'updated'); END;
CREATE TRIGGER IF NOT EXISTS chaos_deleted AFTER DELETE ON outcomes
BEGIN INSERT INTO chaos_witness VALUES (OLD.episode_id, 'deleted ' || OLD.kind); END;
"""


def put_witness(database: Path) -> None:
    """Have the database remember every change to an outcome."""
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(WITNESS)


def outcomes(database: Path, run: str, episodes: int) -> list[str]:
    """So many episodes of the run, each with one outcome, committed once, with the reward that its policy earns."""
    with closing(sqlite3.connect(database)) as connection:
        asked = connection.execute("SELECT id, state, owner, spec, detail FROM episodes WHERE run_id = ?", (run,)).fetchall()
        rows = connection.execute("SELECT episode_id, kind, reward FROM outcomes").fetchall()
        witnessed = connection.execute("SELECT episode_id, what FROM chaos_witness").fetchall()
    found = [] if len(asked) == episodes else [f"{run} has {len(asked)} episodes and not {episodes}"]
    seen, changes = _by_episode([(episode, (kind, reward)) for episode, kind, reward in rows]), _by_episode(witnessed)
    for episode, state, owner, spec, detail in asked:
        policy = json.loads(spec)["policy"]["name"]
        if (state, owner) != ("done", None):
            found.append(f"{episode} is {state}, of {owner}: {detail}")
        if seen.get(episode) != [("scored", REWARDS[policy])]:
            found.append(f"{episode} ({policy}) came to {seen.get(episode)}")
        if not committed_once(changes.get(episode, [])):
            found.append(f"the outcome of {episode} was {changes.get(episode)}")
    return found


def groups(database: Path, told: Sequence[Mapping[str, Any]], *, groups: int, size: int) -> list[str]:
    """So many groups, each whole, with the rewards that its policy earns, and acknowledged by one trainer, once.

    `told` is what the trainers said: see `tests.chaos.trainer`.
    """
    earned = {line["rollout"]: REWARDS[line["policy"]] for line in told if line["what"] == "asked"}
    present = "FROM groups g JOIN episodes e ON e.group_id = g.id AND e.round = g.round"
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT id, rollout_id, state, version FROM groups").fetchall()
        members = connection.execute(f"SELECT g.id, e.id, e.state, e.owner, e.detail {present}").fetchall()
        outcomes = connection.execute("SELECT episode_id, kind, reward FROM outcomes").fetchall()
        witnessed = connection.execute("SELECT episode_id, what FROM chaos_witness").fetchall()
        ended = Counter(json.loads(body)["episode"] for (body,) in connection.execute("SELECT body FROM events WHERE kind = 'ended'"))
    found = [] if len(rows) == groups else [f"{len(rows)} groups are there, and {groups} were asked for"]
    changes, came_to = _by_episode(witnessed), _by_episode([(episode, (kind, reward)) for episode, kind, reward in outcomes])
    whole: dict[str, list[str]] = {}
    for group, episode, *now in members:
        whole.setdefault(group, []).append(episode)
        found += [f"{episode} is {now[0]}, of {now[1]}: {now[2]}"] if now[:2] != ["done", None] else []
    for group, rollout, state, version in rows:
        own = whole.get(group, [])
        found += [f"{group} is {state} with {len(own)} members"] if (state, len(own)) != ("acknowledged", size) else []
        for episode in own:
            found += _commit_complaints(episode, came_to.get(episode), ("scored", earned.get(rollout)), changes.get(episode, []))
            found += [f"{episode} was told to have ended {ended[episode]} times"] if ended[episode] != 1 else []
        had = [(line["version"], line["complete"], line["rewards"]) for line in told if line["what"] == "had" and line["group"] == group]
        if not had or any(one != (version, True, [earned.get(rollout)] * size) for one in had):
            found.append(f"trainers had {group} (version {version}) as {had}")
        acknowledged = sum(line["what"] == "acknowledged" and line["group"] == group for line in told)
        found += [f"{group} was acknowledged {acknowledged} times"] if acknowledged != 1 else []
    return found


def _commit_complaints(episode: str, seen: object, earned: tuple[str, float | None], changes: list[str]) -> list[str]:
    found = [] if seen == [earned] else [f"{episode} came to {seen}, and not to {earned}"]
    return found if committed_once(changes) else [*found, f"the outcome of {episode} was {changes}"]


def _by_episode(rows: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for episode, what in rows:
        found.setdefault(episode, []).append(what)
    return found


def committed_once(changes: list[str]) -> bool:
    """One outcome came and stayed. Only an invalid one may have gone before it: `--retry-invalid` takes those away."""
    while changes[:2] == ["inserted", "deleted invalid"]:
        changes = changes[2:]
    return changes == ["inserted"]


def attempts(database: Path, run: str) -> dict[str, str]:
    """Episodes that the farm tried again for a reason of the infrastructure's (its own death is none), and the last reason."""
    query = "SELECT id, attempts, detail FROM episodes WHERE run_id = ? AND attempts > 0 AND detail != ?"
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute(query, (run, DIED)).fetchall()
    return {episode: f"{count} failed attempts: {detail}" for episode, count, detail in rows}


def trajectories(directory: Path, database: Path, run: str) -> list[str]:
    """Each episode's record ends once, with the outcome that the database has, after steps without a gap; but for what was called off.

    A host that had lost the episode may have ended its own section at the same moment: no reader takes it, and it must say the same.
    """
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT e.id, outcome FROM outcomes JOIN episodes e ON e.id = episode_id WHERE run_id = ? AND state != 'cancelled'"
        stored = {episode: json.loads(outcome) for episode, outcome in connection.execute(query, (run,))}
    found = []
    for episode, outcome in stored.items():
        lines = list(_json_lines(directory / f"{episode}.jsonl"))
        headers = [at for at, line in enumerate(lines) if line["kind"] == "header"]
        ends = [
            (lines[max(h for h in headers if h < at)]["epoch"], line["outcome"]) for at, line in enumerate(lines) if line["kind"] == "end"
        ]
        newest = max((lines[at]["epoch"] for at in headers), default=0)
        graded = [(epoch, end) for epoch, end in ends if end["kind"] != "invalid"]
        others = {end.get("reward") for epoch, end in graded if epoch < newest} - {outcome.get("reward")}
        if [end for epoch, end in graded if epoch == newest] != [outcome] or others:
            found.append(f"the record of {episode} ends with {[end.get('reward', end['kind']) for _, end in ends]}")
        last = max(headers, default=0)
        steps = [line["index"] for line in lines[last:] if line["kind"] == "step"]
        if lines and lines[-1]["kind"] == "end" and steps != list(range(len(steps))):
            found.append(f"the record of {episode} has the steps {steps}")
    return found


def build_journal(journal: Path, expected: dict[str, str]) -> list[str]:
    """Each source record is finished once, and as in a build that nobody killed. `expected`: record's digest to `valid` or its gate."""
    lines = [line for line in _json_lines(journal) if line["kind"] != "failed"]
    said = Counter(record_of(line) for line in lines)
    found = [f"the journal finishes {record} {count} times" for record, count in said.items() if count != 1]
    verdicts = journal_verdicts(journal)
    if verdicts != expected:
        found.append(f"the journal says {verdicts}, where an undisturbed build says {expected}")
    return found


def journal_verdicts(journal: Path) -> dict[str, str]:
    """Each finished record's verdict: `valid`, or the gate that it failed at."""
    lines = [line for line in _json_lines(journal) if line["kind"] != "failed"]
    return {record_of(line): "valid" if line["kind"] == "valid" else line["rejection"]["gate"] for line in lines}


def record_of(line: dict[str, Any]) -> str:
    """The digest of the source record that a line of the journal is about."""
    digest: str = line["source_digest"] if line["kind"] == "valid" else line["rejection"]["source_digest"]
    return digest


def catalogue(directory: Path, journal: Path) -> list[str]:
    """The catalogue holds the tasks that the journal names, once per record, each with its archive and a passed report."""
    named = sorted((line["source_digest"], line["task"]) for line in _json_lines(journal) if line["kind"] == "valid")
    with closing(sqlite3.connect(directory / "index.sqlite")) as connection:
        kept = sorted(connection.execute("SELECT source_digest, digest FROM tasks").fetchall())
        passed = {task for (task,) in connection.execute("SELECT task FROM reports WHERE passed")}
    found = [] if kept == named else [f"the catalogue holds {kept}, the journal names {named}"]
    archives = {path.name.partition(".")[0] for path in directory.glob("archives/**/*.tar.zst")}
    for _, task in kept:
        if task not in passed:
            found.append(f"{task} has no passed report")
        if task.removeprefix("sha256:") not in archives:
            found.append(f"{task} has no archive")
    return found


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        yield json.loads(line)
