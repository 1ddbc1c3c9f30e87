"""Lists for people: a tenant's episodes, newest rollouts first, page by page, with what became of each; and how much a tenant uses.

Called by the API. Reads alone; what a trainer gets is `rollout_results`'.
"""

import json

from pydantic import Field
from sqlalchemy import Connection, Engine, func, select, tuple_

from envfarm.core import why
from envfarm.core.frozen import Frozen
from envfarm.core.ids import TenantId
from envfarm.core.listing import EpisodeInfo
from envfarm.stores.episode_schema import EPISODES, GROUPS, ROLLOUTS
from envfarm.stores.outcome_rows import outcomes_of, reward_of
from envfarm.stores.sql import Sql


class EpisodePlace(Frozen):
    """Where in the list an episode stands: what a cursor holds."""

    created: float
    rollout: str
    position: int = Field(ge=0, lt=2**31)
    id: str


class SqlEpisodeLists:
    """The lists of one database."""

    def __init__(self, engine: Engine) -> None:
        self._sql = Sql(engine)

    async def episodes(
        self, tenant: TenantId, *, limit: int, after: EpisodePlace | None = None, states: tuple[str, ...] = (), rollout: str = ""
    ) -> tuple[tuple[EpisodeInfo, ...], EpisodePlace | None]:
        """Of the groups' present rounds, behind a place; and the place of the last, None at the end."""

        def ask(c: Connection) -> tuple[tuple[EpisodeInfo, ...], EpisodePlace | None]:
            query = select(EPISODES, GROUPS.c.version, ROLLOUTS.c.created).join(ROLLOUTS, ROLLOUTS.c.id == EPISODES.c.run_id)
            query = query.join(GROUPS, (GROUPS.c.id == EPISODES.c.group_id) & (GROUPS.c.round == EPISODES.c.round))
            query = query.where(EPISODES.c.tenant == tenant)
            if states:
                query = query.where(EPISODES.c.state.in_(states))
            if rollout:
                query = query.where(EPISODES.c.run_id == rollout)
            if after is not None:
                # The newest rollout first, and inside one in its own order: a place as one tuple, ascending.
                here = tuple_(-ROLLOUTS.c.created, EPISODES.c.run_id, EPISODES.c.position, EPISODES.c.id)
                query = query.where(here > tuple_(-after.created, after.rollout, after.position, after.id))
            order = (-ROLLOUTS.c.created, EPISODES.c.run_id, EPISODES.c.position, EPISODES.c.id)
            rows = c.execute(query.order_by(*order).limit(limit)).all()
            outcomes = outcomes_of(c, [r.id for r in rows])
            found = []
            for r in rows:
                outcome = outcomes.get(r.id)
                found.append(
                    EpisodeInfo(
                        id=r.id,
                        rollout=r.run_id,
                        group=r.group_id,
                        version=r.version,
                        task=r.task,
                        member=r.member,
                        policy=str(json.loads(r.spec)["policy"]["name"]),
                        state=r.state,
                        attempts=r.attempts,
                        kind=outcome.kind if outcome else "",
                        reward=reward_of(outcome),
                        verdict=why.verdict(outcome),
                        why=why.reason(outcome) or why.first_line(r.detail),
                    )
                )
            if len(rows) < limit:
                return tuple(found), None
            last = rows[-1]
            return tuple(found), EpisodePlace(created=last.created, rollout=last.run_id, position=last.position, id=last.id)

        return await self._sql.read("list episodes", ask)

    async def use(self) -> dict[TenantId, dict[str, int]]:
        """How many episodes of each tenant are in which state."""

        def ask(c: Connection) -> dict[TenantId, dict[str, int]]:
            query = select(EPISODES.c.tenant, EPISODES.c.state, func.count().label("many")).where(EPISODES.c.tenant != "")
            found: dict[TenantId, dict[str, int]] = {}
            for r in c.execute(query.group_by(EPISODES.c.tenant, EPISODES.c.state)):
                found.setdefault(TenantId(r.tenant), {})[r.state] = r.many
            return found

        return await self._sql.read("use", ask)
