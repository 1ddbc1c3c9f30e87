"""Hosts' leases: one per host, by the database's clock. A host that is late is fenced, and another one takes its episodes up.

Used by the controllers of services. An episode carries the name of its host and an epoch of its own, which rises whenever it changes
hands: boxd and the commit of an outcome refuse a lower one. (`envfarm run` has no lease: a lock of the kernel tells that its process died.)
"""

import asyncio
from contextlib import suppress

from sqlalchemy import Connection, Engine, delete, exists, func, literal, select, update

from envfarm.core.errors import StoreError
from envfarm.core.frozen import Frozen
from envfarm.core.tally import NOTHING, Tally
from envfarm.stores import tallies
from envfarm.stores.episode_schema import EPISODES, LEASES
from envfarm.stores.episodes import DIED
from envfarm.stores.sql import Sql, db_now, insert_new
from envfarm.stores.usage import estimate

NOBODYS = 0.0
"""A moment long ago: of a lease that nobody holds any more."""


class HostLease(Frozen):
    """What a host holds."""

    host: str
    epoch: int


class SqlLeases:
    """The leases of one database."""

    def __init__(self, engine: Engine) -> None:
        self._sql = Sql(engine)

    async def take(self, host: str, *, lease_s: float, offer: str = "") -> HostLease:
        """Take the host's next epoch, whoever held the last one. What the last one was playing is pending again.

        The `offer` is what it tells the others of itself. Whoever is cancelled meanwhile holds nothing.
        """
        taken: list[HostLease] = []

        def work(c: Connection) -> HostLease:
            insert_new(c, LEASES, [{"host": host, "epoch": 0, "until": 0.0}])
            ended = _end_of_life(c, host)
            raised = {"epoch": LEASES.c.epoch + 1, "until": db_now() + lease_s, "offer": offer}
            epoch = c.execute(update(LEASES).where(LEASES.c.host == host).values(**raised).returning(LEASES.c.epoch)).scalar_one()
            release(c, host, until=ended)
            tallies.end(c, [host])
            taken.append(HostLease(host=host, epoch=epoch))
            return taken[-1]

        try:
            return await self._sql.write("take a lease", work)
        except asyncio.CancelledError:
            for lease in taken[-1:]:
                with suppress(StoreError):
                    await self.drop(lease)
            raise

    async def renew(self, lease: HostLease, *, lease_s: float, tally: Tally = NOTHING) -> bool:
        """Hold it for so many seconds from now, and say what was counted under it.

        False when another epoch was taken: the holder must let go of everything at once.
        """

        def work(c: Connection) -> bool:
            mine = (LEASES.c.host == lease.host, LEASES.c.epoch == lease.epoch)
            if c.execute(update(LEASES).where(*mine).values(until=db_now() + lease_s)).rowcount == 0:
                return False
            tallies.keep(c, lease.host, tally)
            return True

        return await self._sql.write("renew a lease", work)

    async def drop(self, lease: HostLease, *, tally: Tally = NOTHING) -> None:
        """Give it up in good order; what is still its own is pending again without a failed attempt. `tally` as in `renew`."""

        def work(c: Connection) -> None:
            mine = (LEASES.c.host == lease.host, LEASES.c.epoch == lease.epoch)
            ended = _end_of_life(c, lease.host)
            if c.execute(update(LEASES).where(*mine).values(epoch=LEASES.c.epoch + 1, until=NOBODYS)).rowcount:
                release(c, lease.host, until=ended, died=False)
                tallies.keep(c, lease.host, tally)
                tallies.end(c, [lease.host])
                # The name of a host with an offer is one process's alone; of others no epoch may be given twice.
                c.execute(delete(LEASES).where(LEASES.c.host == lease.host, LEASES.c.offer != ""))

        await self._sql.write("drop a lease", work)

    async def lapse(self, host: str) -> None:
        """End the lease of a host that is known to be dead."""

        def work(c: Connection) -> None:
            c.execute(update(LEASES).where(LEASES.c.host == host, LEASES.c.until > db_now()).values(until=db_now()))

        await self._sql.write("end a lease", work)

    async def hosts(self) -> tuple[str, ...]:
        """Everybody who holds a lease, lapsed ones included."""
        held = select(LEASES.c.host).where(LEASES.c.until > NOBODYS).order_by(LEASES.c.host)
        return await self._sql.read("hosts", lambda c: tuple(c.scalars(held)))

    async def offers(self) -> tuple[str, ...]:
        """What those tell of themselves whose lease stands, and who tell something."""
        told = select(LEASES.c.offer).where(LEASES.c.until > db_now(), LEASES.c.offer != "").order_by(LEASES.c.host)
        return await self._sql.read("offers", lambda c: tuple(c.scalars(told)))

    async def take_over_lapsed(self, *, but: str = "") -> int:
        """Fence every host whose lease has lapsed, and make its episodes pending; how many hosts. Safe to call from many at once.

        A host leaves itself out: a lease that is late, and that nobody took, is renewed.
        """

        def work(c: Connection) -> int:
            # The row stays: a host that only slept takes its next epoch, and what is left of its last life must not have the same.
            lapsed = (LEASES.c.until > NOBODYS, LEASES.c.until <= db_now(), LEASES.c.host != but)
            gone = c.execute(select(LEASES).where(*lapsed).order_by(LEASES.c.host).with_for_update(skip_locked=True)).all()
            for row in gone:
                c.execute(update(LEASES).where(LEASES.c.host == row.host).values(epoch=LEASES.c.epoch + 1, until=NOBODYS))
                release(c, row.host, until=row.until)
            tallies.end(c, [row.host for row in gone])
            return len(gone)

        return await self._sql.write("take over", work)


def _end_of_life(c: Connection, host: str) -> float:
    """Until when a host held its lease: now, where it holds it still, or never did."""
    held = select(LEASES.c.until).where(LEASES.c.host == host, LEASES.c.until.between(NOBODYS + 1, db_now()))
    return c.scalar(select(func.coalesce(held.scalar_subquery(), db_now()))) or 0.0


def release(c: Connection, host: str, *, until: float, died: bool = True) -> int:
    """Make a host's running episodes pending, under a higher epoch. What it was playing counts as granted `until` then.

    A death counts apart from failed attempts: a host plays hundreds of episodes, and one of them at most is to blame.
    """
    estimate(c, host, until=until)
    values = {"state": "pending", "owner": None, "epoch": EPISODES.c.epoch + 1}
    if died:
        values |= {"deaths": EPISODES.c.deaths + 1, "detail": DIED}
    return c.execute(update(EPISODES).where(EPISODES.c.owner == host, EPISODES.c.state == "running").values(**values)).rowcount


def holds(c: Connection, lease: HostLease) -> bool:
    """Whether the lease stands, and has not lapsed. Locks it against being taken until the transaction ends."""
    mine = (LEASES.c.host == lease.host, LEASES.c.epoch == lease.epoch, LEASES.c.until > db_now())
    if c.dialect.name == "postgresql":
        return c.execute(select(LEASES.c.host).where(*mine).with_for_update(read=True)).one_or_none() is not None
    return bool(c.scalar(select(literal(1)).where(exists().where(*mine))))
