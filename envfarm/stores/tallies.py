"""What hosts counted, a row for each lease that stands, and one for all that ended: what the farm's metrics are made of.

A host says it when it renews its lease. Where a lease ends, its row is added to that of the ended ones in the same transaction, so that
whoever reads both in one statement sees no count fall.
"""

from collections.abc import Collection

from sqlalchemy import Connection, Engine, delete, func, select, update

from envfarm.core.tally import NOTHING, Tally
from envfarm.stores.episode_schema import LEASES, TALLIES
from envfarm.stores.sql import Sql, db_now, insert_new, insert_or_replace

ENDED = ""
"""The host of the row of all that ended."""


class SqlTallies:
    """The tallies of one database."""

    def __init__(self, engine: Engine) -> None:
        self._sql = Sql(engine)

    async def whole(self) -> Tally:
        """What all hosts counted that there ever were, and how high things stand with those whose lease stands."""
        standing = func.coalesce(LEASES.c.until > db_now(), False)
        of_hosts = select(TALLIES.c.told, standing.label("stands")).outerjoin(LEASES, LEASES.c.host == TALLIES.c.host)

        def ask(c: Connection) -> Tally:
            whole = NOTHING
            for row in c.execute(of_hosts.order_by(func.coalesce(LEASES.c.until, 0.0))):
                tally = _read(row.told)
                whole = whole.plus(tally if row.stands else tally.ended)
            return whole

        return await self._sql.read("tallies", ask)


def keep(c: Connection, host: str, tally: Tally) -> None:
    """What a host counted under its lease, in place of what it said before; nothing of a holder that counts nothing."""
    if tally != NOTHING:
        insert_or_replace(c, TALLIES, {"host": host, "told": tally.model_dump_json(exclude_defaults=True)})


def end(c: Connection, hosts: Collection[str]) -> None:
    """The leases of these hosts end: add what they said to what ended ones did."""
    if not hosts:
        return
    gone = list(c.scalars(delete(TALLIES).where(TALLIES.c.host.in_(hosts)).returning(TALLIES.c.told)))
    if not gone:
        return
    insert_new(c, TALLIES, [{"host": ENDED, "told": NOTHING.model_dump_json(exclude_defaults=True)}])
    whole = _read(c.execute(select(TALLIES.c.told).where(TALLIES.c.host == ENDED).with_for_update()).scalar_one())
    for told in gone:
        whole = whole.plus(_read(told).ended)
    c.execute(update(TALLIES).where(TALLIES.c.host == ENDED).values(told=whole.model_dump_json(exclude_defaults=True)))


def _read(told: str) -> Tally:
    return Tally.model_validate_json(told, extra="ignore")  # a newer host may tell more
