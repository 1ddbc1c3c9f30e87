"""What the database and the cluster say became of every episode, read with nothing of the farm's own code.

`read` takes the rows; the judges are functions of them, and give complaints. A witness in the database (triggers that the harness puts
there) tells of every change to an outcome, so that a second commit shows even where it left the same row.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psycopg

from tests.chaos.cluster.agents import AGENTS
from tests.chaos.evidence import committed_once

WITNESS = """
CREATE TABLE IF NOT EXISTS chaos_witness (at SERIAL, episode_id TEXT NOT NULL, what TEXT NOT NULL);
CREATE OR REPLACE FUNCTION chaos_saw() RETURNS trigger AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN INSERT INTO chaos_witness (episode_id, what) VALUES (NEW.episode_id, 'inserted');
  ELSIF TG_OP = 'UPDATE' THEN INSERT INTO chaos_witness (episode_id, what) VALUES (OLD.episode_id, 'updated');
  ELSE INSERT INTO chaos_witness (episode_id, what) VALUES (OLD.episode_id, 'deleted ' || OLD.kind);
  END IF;
  RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE OR REPLACE TRIGGER chaos_witness AFTER INSERT OR UPDATE OR DELETE ON outcomes FOR EACH ROW EXECUTE FUNCTION chaos_saw();
"""
QUERY = """
SELECT e.id, e.run_id, e.state, e.owner, e.attempts, e.deaths, e.detail, o.kind, o.reward, o.outcome
FROM episodes e LEFT JOIN outcomes o ON o.episode_id = e.id WHERE e.run_id = ANY(%s) ORDER BY e.position
"""
RETRIES = "SELECT at, body FROM events WHERE kind = 'retrying' AND rollout_id = ANY(%s)"


GROUPS = "SELECT state, count(*) FROM groups WHERE rollout_id = ANY(%s) GROUP BY state"


HEADER = b'{"kind":"header",'
WAYS = ("its box lived and was adopted", "replayed and agreed", "started again")


class Ended(NamedTuple):
    """What became of an episode."""

    episode: str
    agent: str
    state: str
    owner: str | None
    attempts: int
    deaths: int
    detail: str
    kind: str | None
    """Of its outcome; None where there is none."""
    reward: float | None
    why: str
    changes: tuple[str, ...]
    """What the witness saw of its outcome."""

    @property
    def is_as_earned(self) -> bool:
        """Scored with its agent's reward; an agent that broke its box may have been cut, too."""
        expected = AGENTS[self.agent]
        return (self.kind == "scored" or (self.kind == "censored" and bool(expected.breaks))) and self.reward == expected.reward


class Retry(NamedTuple):
    """An attempt that came to nothing, by the infrastructure's fault as the farm says."""

    episode: str
    at: float
    why: str


class Told(NamedTuple):
    """All of it."""

    episodes: tuple[Ended, ...]
    retries: tuple[Retry, ...]
    groups: Mapping[str, int]
    """By state."""


class Struck(NamedTuple):
    """A fault that was done, in seconds of the database's clock."""

    kind: str
    phase: str
    began: float
    ended: float
    hit: frozenset[str]
    """Episodes that it may have harmed."""


def put_witness(database: str) -> None:
    """Have the database remember every change to an outcome."""
    with closing(psycopg.connect(database, autocommit=True)) as connection:
        connection.execute(WITNESS)


def read(database: str, agents: Mapping[str, str]) -> Told:
    """Of the rollouts that `agents` names, with who plays in each."""
    runs = list(agents)
    with closing(psycopg.connect(database)) as connection:
        changes: defaultdict[str, list[str]] = defaultdict(list)
        for episode, what in connection.execute("SELECT episode_id, what FROM chaos_witness ORDER BY at"):
            changes[episode].append(what)
        episodes = [
            Ended(id_, agents[run], state, owner, attempts, deaths, detail, kind, reward, _why(outcome), tuple(changes[id_]))
            for id_, run, state, owner, attempts, deaths, detail, kind, reward, outcome in connection.execute(QUERY, (runs,))
        ]
        retries = [Retry(body["episode"], at, body["why"]) for at, body in _events(connection, runs)]
        groups: dict[str, int] = dict(connection.execute(GROUPS, (runs,)).fetchall())
    return Told(tuple(episodes), tuple(retries), groups)


def went_on(records: Path) -> Counter[str]:
    """How attempts that were interrupted went on, as the headers of their records say."""
    lines = (line for path in records.glob("*.jsonl") for line in path.read_bytes().splitlines() if line.startswith(HEADER))
    reasons = [str(json.loads(line)["started_because"]) for line in lines]
    return Counter(way for reason in reasons for way in WAYS if way in reason)


def one_outcome(told: Told, asked: int) -> list[str]:
    """So many episodes, each over, with one outcome that came once and stayed; every group was given to its trainer."""
    found = [] if len(told.episodes) == asked else [f"{len(told.episodes)} episodes are there, and {asked} were asked for"]
    for one in told.episodes:
        if one.state not in {"done", "poisoned"} or one.owner is not None or one.kind is None:
            found.append(f"{one.episode} is {one.state}, of {one.owner}, with the outcome {one.kind}: {one.detail}")
        elif not committed_once(list(one.changes)):
            found.append(f"the outcome of {one.episode} was {list(one.changes)}")
    if set(told.groups) - {"acknowledged"}:
        found.append(f"groups are {dict(told.groups)}: not all came to their trainer")
    return found


def no_fault_is_a_reward(told: Told) -> list[str]:
    """Who has a reward has the one that was earned. Infrastructure that failed for good says so (`invalid`)."""
    return [
        f"{one.episode} ({one.agent}) came to {one.kind} {one.reward}: {one.why}"
        for one in told.episodes
        if one.kind not in {None, "invalid"} and not one.is_as_earned
    ]


def no_retry_is_bought(told: Told, struck: Sequence[Struck], *, late_s: float) -> list[str]:
    """An attempt of whoever breaks its own box is only tried again where a fault may have harmed it, at most so long before."""
    breakers = {one.episode: one for one in told.episodes if AGENTS[one.agent].breaks}
    return [
        f"{retry.episode} ({breakers[retry.episode].agent}) was tried again, and nothing had harmed it: {retry.why}"
        for retry in told.retries
        if retry.episode in breakers and not any(_may_have(fault, retry, late_s) for fault in struck)
    ]


def nothing_is_lost_in_calm(told: Told) -> list[str]:
    """Where nothing is harmed, each episode is played once, and comes to what was earned."""
    found = [
        f"{one.episode} ({one.agent}) took {one.attempts + one.deaths} tries more: {one.detail}" for one in told.episodes if _again(one)
    ]
    return found + [f"{one.episode} ({one.agent}) came to {one.kind}: {one.why}" for one in told.episodes if not one.is_as_earned]


def became(told: Told, episodes: Collection[str]) -> str:
    """What became of these, in words."""
    counts: Counter[str] = Counter()
    for one in told.episodes:
        if one.episode in episodes:
            again = one.attempts + one.deaths
            counts["invalid" if one.kind == "invalid" else "WRONG" if not one.is_as_earned else "as earned"] += 1
            counts["after another try"] += again > 0 and one.is_as_earned
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "none was hit"


def _again(one: Ended) -> bool:
    return one.attempts + one.deaths > 0


def _may_have(fault: Struck, retry: Retry, late_s: float) -> bool:
    return retry.episode in fault.hit and fault.began <= retry.at <= fault.ended + late_s


def _events(connection: "psycopg.Connection[tuple[object, ...]]", runs: list[str]) -> list[tuple[float, dict[str, str]]]:
    return [(float(str(at)), json.loads(str(body))) for at, body in connection.execute(RETRIES, (runs,))]


def _why(outcome: str | None) -> str:
    said = json.loads(outcome) if outcome else {}
    return str(said.get("why") or said.get("detail") or (said.get("partial") or {}).get("why") or "")[:400]
