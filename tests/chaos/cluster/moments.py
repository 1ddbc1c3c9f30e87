"""Where in an episode's life a fault is placed. Each moment waits until some episode is there, and says what there is to harm.

An episode is found by what the cluster, the database and its record say. The moment of the commit is held: while the harness has the table
of outcomes locked, a host that tells one waits in the middle of its transaction.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from typing import NamedTuple

import psycopg

from tests.chaos.cluster.agents import AGENTS
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.kube import DOMAIN, Json, begins, runs, said_of

WAIT_S = 30.0
LOOK_S = 0.05


class Target(NamedTuple):
    """An episode at the moment that was asked for."""

    episode: str
    owner: str
    """The host that plays it."""
    pod: Json | None = None
    """Its box; None where it has none at that moment."""

    @property
    def host(self) -> int:
        """The host's process."""
        return int(self.owner.split("-")[1])


Moment = Callable[[Field], AbstractContextManager[Target | None]]


def _first(look: Callable[[], Target | None], within_s: float = WAIT_S) -> Target | None:
    end = time.monotonic() + within_s
    while (found := look()) is None and time.monotonic() < end:
        time.sleep(LOOK_S)
    return found


def _boxes(field: Field, *, state: Callable[[Json], bool]) -> Iterator[tuple[str, str, Json]]:
    """Episodes, their hosts, and their agents' boxes that are in this state. Those that break their boxes themselves are left out."""
    running = _harmable(field)
    for pod in field.kube.pods():
        if (episode := said_of(pod, "episode")) in running and state(pod):
            yield episode, running[episode], pod


def _harmable(field: Field) -> dict[str, str]:
    rows = field.rows("SELECT id, owner, run_id FROM episodes WHERE state = 'running' AND run_id = ANY(%s)", list(field.agents))
    return {episode: owner for episode, owner, run in rows if not AGENTS[field.agents[run]].breaks}


@contextmanager
def mid_create(field: Field) -> Iterator[Target | None]:
    """Its pod was asked for, and does not run yet."""
    yield _first(lambda: next((Target(*found) for found in _boxes(field, state=begins)), None))


@contextmanager
def mid_action(field: Field) -> Iterator[Target | None]:
    """It has acted, and its record does not end with its last action."""
    yield _first(lambda: next((Target(*found) for found in _boxes(field, state=runs) if _acts(field.last_line(found[0]))), None))


@contextmanager
def mid_grade(field: Field) -> Iterator[Target | None]:
    """It has finished, its own box is gone, and it has a box that is graded in, where its host has one alone that it can be."""
    yield _first(lambda: _graded(field))


@contextmanager
def mid_commit(field: Field) -> Iterator[Target | None]:
    """Its host has told its outcome to the database, whose transaction waits. It goes on when the block ends, or its host is dead."""
    with closing(psycopg.connect(field.database)) as connection:
        connection.execute("LOCK TABLE outcomes IN SHARE MODE")

        def waits() -> Target | None:
            held = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'outcomes'::regclass"
            if not connection.execute(held).fetchall()[0][0]:
                return None
            ended = (Target(e, owner) for e, owner in _harmable(field).items() if field.last_line(e).get("kind") == "end")
            return next(ended, None)

        yield _first(waits)
        with suppress(psycopg.OperationalError):  # the database was harmed
            connection.rollback()


def _acts(line: Json) -> bool:
    return line.get("kind") == "header" or (line.get("kind") == "step" and line["action"]["tool"] != "finish")


def _graded(field: Field) -> Target | None:
    """A box for grading names no episode; its maker does, by the boxes of agents that it has made."""
    graded = {e: owner for e, owner in _harmable(field).items() if (field.last_line(e).get("action") or {}).get("tool") == "finish"}
    makers = _makers(field)
    for pod in field.kube.pods():
        if runs(pod) and said_of(pod, "owner") and not said_of(pod, "episode"):
            owner = makers.get(pod["metadata"]["labels"][f"{DOMAIN}maker"])
            if found := next((e for e, its in graded.items() if its == owner), None):
                return Target(found, graded[found], pod)
    return None


def _makers(field: Field) -> dict[str, str]:
    """Maker of boxes → host, by episodes that are played now."""
    running = field.running()
    pods = [(pod["metadata"]["labels"][f"{DOMAIN}maker"], said_of(pod, "episode")) for pod in list(field.pods.values())]
    return {maker: running[episode] for maker, episode in pods if episode in running}


MOMENTS: dict[str, Moment] = {"create": mid_create, "action": mid_action, "grade": mid_grade, "commit": mid_commit}
