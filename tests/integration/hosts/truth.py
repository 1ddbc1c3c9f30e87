"""What must be so after hosts were harmed, read from the database and the journals, not from the farm's own counters."""

from collections import Counter
from pathlib import Path

from sqlalchemy import Engine, func, select

from envfarm.core.trajectory import Trajectory
from envfarm.stores.episode_schema import EPISODES, EVENTS, LEASES, OUTCOMES
from envfarm.stores.trajectories import FileTrajectories


async def check_exactly_once(engine: Engine, home: Path, *, episodes: int, actions: int) -> list[Trajectory]:
    """Each episode has one outcome, was told to have ended once, and has a whole journal; the journals."""
    with engine.connect() as c:
        rows = c.execute(select(EPISODES.c.id, EPISODES.c.state)).all()
        assert Counter(row.state for row in rows) == {"done": episodes}
        assert c.scalar(select(func.count()).select_from(OUTCOMES)) == episodes
        ended = Counter(c.scalars(select(EVENTS.c.body).where(EVENTS.c.kind == "ended")))
        assert len(ended) == episodes
        assert set(ended.values()) == {1}
    told = [await FileTrajectories(home / "trajectories").read(row.id) for row in rows]
    for one in told:
        assert [s.index for s in one.steps] == list(range(actions + 1))
        assert one.end is not None
    return told


def deaths(engine: Engine) -> int:
    """How many episodes' hosts died, over all episodes."""
    with engine.connect() as c:
        return c.scalar(select(func.sum(EPISODES.c.deaths))) or 0


def hosts_that_hold(engine: Engine) -> int:
    """Leases that somebody still holds."""
    with engine.connect() as c:
        return c.scalar(select(func.count()).where(LEASES.c.until > 0)) or 0
