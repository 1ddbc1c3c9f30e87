"""Outcomes as rows: encoding, and the statements that store an outcome exactly once.

Used by the stores of episodes and rollouts, inside their transactions.
"""

from collections.abc import Sequence

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError
from sqlalchemy import Connection, insert, select, update

from envfarm.core.errors import StoreError
from envfarm.core.ids import EpisodeId
from envfarm.core.outcome import Censored, Invalid, Outcome, Scored, public
from envfarm.core.storable import OUTCOME, told
from envfarm.stores.episode_schema import EPISODES, OUTCOMES
from envfarm.stores.sql import CHUNK


def encoded(episode: EpisodeId, outcome: Outcome) -> str:
    """The outcome as JSON. Raises `StoreError` for one that does not survive being stored (a reward that is no number)."""
    try:
        stored = OUTCOME.dump_json(outcome).decode()
    except PydanticSerializationError as e:
        raise StoreError(f"outcome of {episode} cannot be stored: {e}") from e
    if decoded(episode, stored) != outcome:
        raise StoreError(f"outcome of {episode} cannot be stored as it is: {stored[:200]}")
    return stored


def decoded(episode: str, stored: str) -> Outcome:
    """Read one back. Raises `StoreError` for a damaged one."""
    try:
        return OUTCOME.validate_json(stored)
    except ValidationError as e:
        raise StoreError(f"outcome of {episode} is damaged: {e.errors()[0]['msg']}") from e


def commit(c: Connection, episode: EpisodeId, outcome: Outcome, *, epoch: int | None, at: str) -> bool:
    """Store the outcome and the episode's end. False when one is there already, or when a higher epoch has the episode.

    Raises `StoreError` for an unknown episode.
    """
    state = "poisoned" if isinstance(outcome, Invalid) else "done"
    mine = [EPISODES.c.id == episode, EPISODES.c.state.in_(("pending", "running"))]
    if epoch is not None:
        mine.append(EPISODES.c.epoch == epoch)
    why = {"detail": told(outcome.detail)} if isinstance(outcome, Invalid) else {}
    if c.execute(update(EPISODES).where(*mine).values(state=state, owner=None, **why)).rowcount == 0:
        if c.execute(select(EPISODES.c.id).where(EPISODES.c.id == episode)).one_or_none() is None:
            raise StoreError(f"episode {episode!r} is not known")
        return False
    stored = encoded(episode, outcome)
    row = {"episode_id": episode, "kind": outcome.kind, "reward": reward_of(outcome), "outcome": stored, "committed_at": at}
    c.execute(insert(OUTCOMES).values(**row))
    return True


def outcomes_of(c: Connection, episodes: Sequence[str], *, whole: bool = False) -> dict[EpisodeId, Outcome]:
    """Those that are there, among these; `public` unless the whole is asked for. Raises `StoreError` for a damaged one."""
    found: dict[EpisodeId, Outcome] = {}
    for at in range(0, len(episodes), CHUNK):
        ids = list(episodes[at : at + CHUNK])
        for row in c.execute(select(OUTCOMES.c.episode_id, OUTCOMES.c.outcome).where(OUTCOMES.c.episode_id.in_(ids))):
            outcome = decoded(row.episode_id, row.outcome)
            found[EpisodeId(row.episode_id)] = outcome if whole else public(outcome)
    return found


def reward_of(outcome: Outcome | None) -> float | None:
    """The number that lists and events show; None where there is none."""
    match outcome:
        case Scored(reward=reward):
            return reward
        case Censored(partial=Scored(reward=reward)):
            return reward
        case _:
            return None
