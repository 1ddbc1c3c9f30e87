"""What a trainer gets: finished groups, leased at least once until they are acknowledged; and what is forgotten after that.

Called by the service's controller. A lease here is a trainer's, on a group; a host's lease on its episodes is in `leases`.
"""

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, delete, func, select, update

from envfarm.core.episode import EpisodeSpec
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, RunId, TaskDigest, TenantId
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import Acknowledged, GroupResult, LeasedGroup, Member, RolloutRequest
from envfarm.stores import usage
from envfarm.stores.episode_schema import EPISODES, EVENTS, GROUPS, OUTCOMES, ROLLOUTS, RUNS
from envfarm.stores.outcome_rows import outcomes_of
from envfarm.stores.rollout_rows import IS_DONE, let_go_of_policy
from envfarm.stores.sql import CHUNK, PAGE_CHARS, Sql, db_now, until_full

BILLS_S = 400 * 86400.0


class PassRate(Frozen):
    """How a tenant's episodes did on a task."""

    scored: int
    mean: float


class _Taken(NamedTuple):
    """A group's row, and whether it was leased before."""

    row: Row[Any]
    again: bool


class SqlRolloutResults:
    """The results of one database."""

    def __init__(self, engine: Engine, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._sql = Sql(engine)
        self._faults = faults

    async def lease(
        self, tenant: TenantId, *, limit: int, lease_s: float, rollouts: Sequence[RunId] = (), most_chars: int = PAGE_CHARS
    ) -> tuple[LeasedGroup, ...]:
        """The oldest groups that are ready and that nobody has, of these rollouts or of all; each is then this caller's for a while.

        At most `limit`, and none after the one whose outcomes, with those before, have `most_chars` or more as JSON.
        """
        self._faults.reach("result lease")
        free = [*_ready(tenant, rollouts), (GROUPS.c.lease_until.is_(None)) | (GROUPS.c.lease_until <= db_now())]

        def look(c: Connection) -> list[Row[Any]]:
            oldest: Select[Any] = select(GROUPS.c.id, GROUPS.c.round, GROUPS.c.lease).where(*free).limit(limit)
            return list(
                until_full(c.execute(oldest.order_by(GROUPS.c.ready, GROUPS.c.id)).all(), lambda group: _chars(c, group), most_chars)
            )

        def take(c: Connection, found: Sequence[Row[Any]]) -> list[_Taken]:
            taken = []
            for group in found:
                values = {"lease": secrets.token_hex(16), "lease_until": db_now() + lease_s}
                still = (GROUPS.c.id == group.id, GROUPS.c.lease.is_not_distinct_from(group.lease), *free)
                row = c.execute(update(GROUPS).where(*still).values(**values).returning(GROUPS)).one_or_none()
                taken += [] if row is None else [_Taken(row, group.lease is not None)]
            return taken

        def leased(c: Connection, taken: Sequence[_Taken]) -> tuple[LeasedGroup, ...]:
            results = _results(c, taken)
            return tuple(LeasedGroup(lease=t.row.lease, until=t.row.lease_until, result=r) for t, r in zip(taken, results, strict=True))

        # The writing is brief: on SQLite there is one writer, on PostgreSQL others wait for these rows. What others took meanwhile is not
        # taken; then there may be more.
        while found := await self._sql.read("look for results", look):
            if taken := await self._sql.write("lease results", partial(take, found=found)):
                return await self._sql.read("results", lambda c: leased(c, taken))
        return ()

    async def may_come(self, tenant: TenantId, rollouts: Sequence[RunId]) -> bool:
        """Whether groups of these rollouts may still be leased: one is played, or was not acknowledged."""

        def ask(c: Connection) -> bool:
            asked = list(rollouts)[:CHUNK]
            active = select(ROLLOUTS.c.id).where(ROLLOUTS.c.id.in_(asked), ROLLOUTS.c.tenant == tenant, ROLLOUTS.c.state == "active")
            ready = select(GROUPS.c.id).where(GROUPS.c.rollout_id.in_(asked), GROUPS.c.tenant == tenant, GROUPS.c.state == "ready")
            return any(c.execute(query.limit(1)).one_or_none() is not None for query in (active, ready))

        return await self._sql.read("may come", ask)

    async def next_free_s(self, tenant: TenantId, rollouts: Sequence[RunId] = ()) -> float | None:
        """Seconds until the next trainer's lease lapses, of those on groups of these rollouts or of all; None where there is none."""

        def ask(c: Connection) -> float | None:
            ends = select(func.min(GROUPS.c.lease_until) - db_now()).where(*_ready(tenant, rollouts), GROUPS.c.lease_until > db_now())
            found = c.scalar(ends)
            return None if found is None else max(float(found), 0.0)

        return await self._sql.read("next free", ask)

    async def acknowledge(self, tenant: TenantId, leases: Sequence[str]) -> Acknowledged:
        """Those groups are done with. Safe to say again; a lease that lapsed counts for as long as nobody else has the group."""
        self._faults.reach("acknowledge")

        def work(c: Connection) -> Acknowledged:
            good = []
            for lease in sorted(set(leases)):
                mine = (GROUPS.c.lease == lease, GROUPS.c.tenant == tenant, GROUPS.c.state.in_(("ready", "acknowledged")))
                done = {"state": "acknowledged", "acknowledged": func.coalesce(GROUPS.c.acknowledged, db_now())}
                if c.execute(update(GROUPS).where(*mine).values(**done)).rowcount:
                    good.append(lease)
            return Acknowledged(
                acknowledged=tuple(lease for lease in leases if lease in good), lapsed=tuple(lease for lease in leases if lease not in good)
            )

        return await self._sql.write("acknowledge", work)

    async def group_of(self, tenant: TenantId, episode: EpisodeId) -> GroupResult | None:
        """The finished group of an episode; None while it is not."""

        def ask(c: Connection) -> GroupResult | None:
            query = select(GROUPS).join(EPISODES, EPISODES.c.group_id == GROUPS.c.id)
            row = c.execute(query.where(EPISODES.c.id == episode, GROUPS.c.tenant == tenant)).one_or_none()
            return None if row is None or row.state not in {"ready", "acknowledged"} else _results(c, [_Taken(row, again=False)])[0]

        return await self._sql.read("group", ask)

    async def pass_rates(self, tenant: TenantId, tasks: Sequence[TaskDigest] | None = None) -> dict[str, PassRate]:
        """By task digest, over the tenant's scored episodes of these tasks, or of all."""

        def ask(c: Connection) -> dict[str, PassRate]:
            query = select(EPISODES.c.task, func.count(), func.avg(OUTCOMES.c.reward))
            query = query.join(OUTCOMES, OUTCOMES.c.episode_id == EPISODES.c.id)
            query = query.where(EPISODES.c.tenant == tenant, IS_DONE, OUTCOMES.c.kind == "scored").group_by(EPISODES.c.task)
            some = (
                [query]
                if tasks is None
                else [query.where(EPISODES.c.task.in_(tasks[at : at + CHUNK])) for at in range(0, len(tasks), CHUNK)]
            )
            return {task: PassRate(scored=many, mean=float(mean)) for part in some for task, many, mean in c.execute(part)}

        return await self._sql.read("pass rates", ask)

    async def over(self, *, older_s: float, limit: int = 1000) -> tuple[EpisodeId, ...]:
        """Some episodes of rollouts that are over, and all of whose groups are acknowledged, for so long."""

        def ask(c: Connection) -> tuple[EpisodeId, ...]:
            some = _over(older_s).order_by(ROLLOUTS.c.id).limit(limit)
            query = select(EPISODES.c.id).where(EPISODES.c.run_id.in_(some)).order_by(EPISODES.c.run_id, EPISODES.c.position)
            return tuple(EpisodeId(one) for one in c.scalars(query.limit(limit)))

        return await self._sql.read("over", ask)

    async def forget(self, episodes: Sequence[EpisodeId], *, older_s: float) -> None:
        """Delete these, as far as `over` names them still, and each rollout with its last one. What their attempts used is kept."""

        def work(c: Connection) -> None:
            runs: set[str] = set()
            for at in range(0, len(episodes), CHUNK):
                some = list(episodes[at : at + CHUNK])
                query = select(EPISODES.c.id, EPISODES.c.run_id).where(EPISODES.c.id.in_(some), EPISODES.c.run_id.in_(_over(older_s)))
                rows = c.execute(query).all()
                runs |= {row.run_id for row in rows}
                c.execute(delete(OUTCOMES).where(OUTCOMES.c.episode_id.in_([row.id for row in rows])))
                c.execute(delete(EPISODES).where(EPISODES.c.id.in_([row.id for row in rows])))
            for run in sorted(runs):
                if c.execute(select(EPISODES.c.id).where(EPISODES.c.run_id == run).limit(1)).one_or_none() is None:
                    flow = c.execute(select(ROLLOUTS.c.tenant, ROLLOUTS.c.policy).where(ROLLOUTS.c.id == run)).one()
                    for table, key in ((EVENTS, "rollout_id"), (GROUPS, "rollout_id"), (ROLLOUTS, "id"), (RUNS, "id")):
                        c.execute(delete(table).where(table.c[key] == run))
                    let_go_of_policy(c, flow.tenant, flow.policy)

        await self._sql.write("forget rollouts", work)

    async def forget_bills(self, *, older_s: float) -> None:
        """Delete what attempts used that ended so long ago."""
        await self._sql.write("forget bills", lambda c: usage.forget(c, older_s=older_s))


def _ready(tenant: TenantId, rollouts: Sequence[RunId]) -> list[ColumnElement[bool]]:
    """Whether a group is a tenant's to be leased, or leased; of these rollouts or of all."""
    ready = [GROUPS.c.tenant == tenant, GROUPS.c.state == "ready"]
    return [*ready, GROUPS.c.rollout_id.in_(list(rollouts)[:CHUNK])] if rollouts else ready


def _over(older_s: float) -> Select[tuple[str]]:
    then = db_now() - older_s
    waits = select(GROUPS.c.id).where(GROUPS.c.rollout_id == ROLLOUTS.c.id, (GROUPS.c.state == "ready") | (GROUPS.c.acknowledged > then))
    return select(ROLLOUTS.c.id).where(ROLLOUTS.c.state.in_(("done", "cancelled")), ROLLOUTS.c.ended <= then, ~waits.exists())


def _chars(c: Connection, group: Row[Any]) -> int:
    """How long a group's outcomes are as JSON."""
    outcomes = select(func.sum(func.length(OUTCOMES.c.outcome))).join(EPISODES, EPISODES.c.id == OUTCOMES.c.episode_id)
    return c.scalar(outcomes.where(EPISODES.c.group_id == group.id, EPISODES.c.round == group.round)) or 0


def _results(c: Connection, groups: Sequence[_Taken]) -> tuple[GroupResult, ...]:
    asked: dict[str, dict[str, str]] = {}
    for rollout in dict.fromkeys(taken.row.rollout_id for taken in groups):
        request = c.scalars(select(ROLLOUTS.c.request).where(ROLLOUTS.c.id == rollout)).one()
        asked[rollout] = RolloutRequest.model_validate_json(request).metadata
    return tuple(_result(c, taken.row, asked[taken.row.rollout_id], redelivered=taken.again) for taken in groups)


def _result(c: Connection, group: Row[Any], metadata: dict[str, str], *, redelivered: bool) -> GroupResult:
    query = select(EPISODES.c.id, EPISODES.c.spec).where(EPISODES.c.group_id == group.id, EPISODES.c.round == group.round)
    rows = c.execute(query.order_by(EPISODES.c.member)).all()
    outcomes = outcomes_of(c, [r.id for r in rows])
    specs = [EpisodeSpec.model_validate_json(r.spec) for r in rows]
    members = tuple(Member(episode=s.episode_id, member=s.member, seed=s.seed, outcome=outcomes[s.episode_id]) for s in specs)
    return GroupResult(
        group=group.id,
        rollout=RunId(group.rollout_id),
        task=TaskDigest(group.task),
        version=group.version or 0,
        complete=not any(isinstance(m.outcome, Invalid) for m in members),
        members=members,
        metadata=metadata,
        redelivered=redelivered,
    )
