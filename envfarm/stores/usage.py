"""What attempts used, one row each: begun with the claim, closed with the attempt's end, estimated where its host died.

`begin`, `close` and `estimate` are statements for the transactions of the queue, the episodes and the leases: an attempt and its bill are
there together or not at all. `SqlUsage` adds rows up, for the API.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, and_, case, delete, func, select, tuple_, update

from envfarm.core.frozen import Frozen
from envfarm.core.ids import TenantId
from envfarm.core.usage import Grant, Usage, UsageBy, UsageLine
from envfarm.stores.episode_schema import ATTEMPTS
from envfarm.stores.sql import Sql, db_now, insert_new, insert_or_replace

KEYS: dict[UsageBy, tuple[str, ...]] = {
    "tenant": ("tenant",),
    "rollout": ("tenant", "run_id"),
    "episode": ("tenant", "run_id", "episode_id"),
}
FIELDS = tuple(Usage.model_fields)


class AttemptId(Frozen):
    """Which attempt. An epoch alone does not name it: `envfarm run` tries again under the same one."""

    episode_id: str
    epoch: int
    attempt: int
    run_id: str
    tenant: str = ""


def begin(c: Connection, attempts: Mapping[AttemptId, Grant], host: str) -> None:
    """These attempts begin now, with what each is granted."""
    times = {"started": c.scalar(select(db_now())), "ended": None} if attempts else {}
    insert_new(c, ATTEMPTS, [_row(attempt, host, "running", grant) | times for attempt, grant in attempts.items()])


def close(c: Connection, attempt: AttemptId, used: Usage) -> None:
    """It ended, and this is what it used: once. What was estimated meanwhile is forgotten; what was measured stands."""
    mine = and_(*(ATTEMPTS.c[name] == getattr(attempt, name) for name in ("episode_id", "epoch", "attempt")))
    measured = {"state": "measured", "ended": db_now(), **used.model_dump()}
    if c.execute(update(ATTEMPTS).where(mine, ATTEMPTS.c.state != "measured").values(**measured)).rowcount:
        return
    if c.execute(select(ATTEMPTS.c.state).where(mine)).one_or_none() is None:
        now = c.scalar(select(db_now()))
        insert_or_replace(c, ATTEMPTS, _row(attempt, "", "measured", Grant()) | {"started": now, "ended": now} | used.model_dump())


def estimate(c: Connection, host: str, *, until: float) -> None:
    """A host is gone: what it was playing had its boxes until then, at the latest. What they used is not known."""
    seconds = case((ATTEMPTS.c.started < until, until - ATTEMPTS.c.started), else_=0.0)
    values: dict[str, Any] = {"state": "estimated", "ended": case((ATTEMPTS.c.started < until, until), else_=ATTEMPTS.c.started)}
    values |= {"boxes": 1, "unmeasured": 1, "box_s": seconds}
    values |= {"cpu_granted_s": ATTEMPTS.c.cpus * seconds, "memory_granted_gib_s": ATTEMPTS.c.memory_gib * seconds}
    c.execute(update(ATTEMPTS).where(ATTEMPTS.c.host == host, ATTEMPTS.c.state == "running").values(**values))


def forget(c: Connection, *, older_s: float) -> None:
    """Delete what ended so long ago."""
    c.execute(delete(ATTEMPTS).where(ATTEMPTS.c.ended < db_now() - older_s))


def _row(attempt: AttemptId, host: str, state: str, grant: Grant) -> dict[str, Any]:
    granted = {"cpus": grant.cpus, "memory_gib": grant.memory_mib / 1024}
    return attempt.model_dump() | {"host": host, "state": state} | granted | Usage().model_dump()


class UsageAsked(Frozen):
    """Which lines."""

    tenant: TenantId | None = None
    """All tenants' where None."""
    by: UsageBy = "rollout"
    since: float = 0.0
    until: float | None = None
    """Seconds since 1970, by the database's clock: attempts that ended from the one on, and before the other."""
    rollout: str = ""
    after: tuple[str, ...] = ()
    """The names of the last line that was seen."""
    limit: int = 100


class SqlUsage:
    """The usage of one database."""

    def __init__(self, engine: Engine) -> None:
        self._sql = Sql(engine)

    async def lines(self, asked: UsageAsked) -> tuple[UsageLine, ...]:
        """What was used, a line per name. Attempts that run are not in it: they count when they end."""

        def ask(c: Connection) -> tuple[UsageLine, ...]:
            keys = [ATTEMPTS.c[name] for name in KEYS[asked.by]]
            sums = [func.sum(ATTEMPTS.c[name]).label(name) for name in FIELDS]
            guessed = func.sum(case((ATTEMPTS.c.state == "estimated", 1), else_=0)).label("estimated")
            query = select(*keys, func.count().label("attempts"), guessed, *sums).where(ATTEMPTS.c.state != "running")
            query = query.where(ATTEMPTS.c.ended >= asked.since)
            if asked.until is not None:
                query = query.where(ATTEMPTS.c.ended < asked.until)
            if asked.tenant is not None:
                query = query.where(ATTEMPTS.c.tenant == asked.tenant)
            if asked.rollout:
                query = query.where(ATTEMPTS.c.run_id == asked.rollout)
            if asked.after:
                query = query.where(tuple_(*keys) > tuple_(*asked.after))
            return tuple(_line(row) for row in c.execute(query.group_by(*keys).order_by(*keys).limit(asked.limit)).mappings())

        return await self._sql.read("usage", ask)


def _line(found: RowMapping) -> UsageLine:
    usage = Usage.model_validate({name: found[name] for name in FIELDS})
    return UsageLine(
        tenant=found["tenant"],
        rollout=found.get("run_id"),
        episode=found.get("episode_id"),
        attempts=found["attempts"],
        estimated=found["estimated"],
        usage=usage,
        idle_share=usage.idle_share,
    )
