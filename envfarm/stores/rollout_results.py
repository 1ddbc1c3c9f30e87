"""What a trainer gets: finished groups, leased at least once until they are acknowledged; and what is forgotten after that.

Called by the service's controller. A lease here is a trainer's, on a group; a host's lease on its episodes is in `leases`.
"""

import secrets
from collections.abc import Sequence

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
from envfarm.stores.sql import CHUNK, Sql, db_now

BILLS_S = 400 * 86400.0


class PassRate(Frozen):
    """How a tenant's episodes did on a task."""

    scored: int
    mean: float


class SqlRolloutResults:
    """The results of one database."""

    def __init__(self, engine: Engine, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._sql = Sql(engine)
        self._faults = faults

    async def lease(self, tenant: TenantId, *, limit: int, lease_s: float, rollouts: Sequence[RunId] = ()) -> tuple[LeasedGroup, ...]:
        """The oldest groups that are ready and that nobody has, of these rollouts or of all; each is then this caller's for a while."""
        self._faults.reach("result lease")

        free = select(GROUPS.c.id).where(*_ready(tenant, rollouts))
        free = free.where((GROUPS.c.lease_until.is_(None)) | (GROUPS.c.lease_until <= db_now()))
        # Who waits for results asks again and again: only where there are some is the one writer of SQLite worth waiting for.
        if await self._sql.read("look for results", lambda c: c.execute(free.limit(1)).one_or_none()) is None:
            return ()

        def work(c: Connection) -> tuple[LeasedGroup, ...]:
            oldest = free.add_columns(GROUPS.c.lease).order_by(GROUPS.c.ready, GROUPS.c.id).limit(limit)
            leased = []
            for group, before in c.execute(oldest.with_for_update(skip_locked=True)).all():
                values = {"lease": secrets.token_hex(16), "lease_until": db_now() + lease_s}
                row = c.execute(update(GROUPS).where(GROUPS.c.id == group).values(**values).returning(GROUPS)).one()
                result = _result(c, row, redelivered=before is not None)
                leased.append(LeasedGroup(lease=row.lease, until=row.lease_until, result=result))
            return tuple(leased)

        return await self._sql.write("lease results", work)

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
            return None if row is None or row.state not in {"ready", "acknowledged"} else _result(c, row)

        return await self._sql.read("group", ask)

    async def pass_rates(self, tenant: TenantId) -> dict[str, PassRate]:
        """By task digest, over the tenant's scored episodes."""

        def ask(c: Connection) -> dict[str, PassRate]:
            query = select(EPISODES.c.task, func.count(), func.avg(OUTCOMES.c.reward))
            query = query.join(OUTCOMES, OUTCOMES.c.episode_id == EPISODES.c.id)
            query = query.where(EPISODES.c.tenant == tenant, OUTCOMES.c.kind == "scored").group_by(EPISODES.c.task)
            return {task: PassRate(scored=count, mean=float(mean)) for task, count, mean in c.execute(query)}

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
                    for table, key in ((EVENTS, "rollout_id"), (GROUPS, "rollout_id"), (ROLLOUTS, "id"), (RUNS, "id")):
                        c.execute(delete(table).where(table.c[key] == run))

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


def _result(c: Connection, group: Row[tuple[object, ...]], *, redelivered: bool = False) -> GroupResult:
    query = select(EPISODES.c.id, EPISODES.c.spec).where(EPISODES.c.group_id == group.id, EPISODES.c.round == group.round)
    rows = c.execute(query.order_by(EPISODES.c.member)).all()
    outcomes = outcomes_of(c, [r.id for r in rows])
    specs = [EpisodeSpec.model_validate_json(r.spec) for r in rows]
    members = tuple(Member(episode=s.episode_id, member=s.member, seed=s.seed, outcome=outcomes[s.episode_id]) for s in specs)
    request = c.scalars(select(ROLLOUTS.c.request).where(ROLLOUTS.c.id == group.rollout_id)).one()
    return GroupResult(
        group=group.id,
        rollout=RunId(group.rollout_id),
        task=TaskDigest(group.task),
        version=group.version or 0,
        complete=not any(isinstance(m.outcome, Invalid) for m in members),
        members=members,
        metadata=RolloutRequest.model_validate_json(request).metadata,
        redelivered=redelivered,
    )
