"""Rings of one process's bells, carried to the others: PostgreSQL's LISTEN and NOTIFY. Where the database is SQLite there is no wire.

Run beside whatever has bells (a host, the API): one connection of its own, that comes again when it is lost. A ring may be lost, and never
comes twice without harm: nobody may rely on more than being woken sooner. It knows no bell's meaning.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol

from sqlalchemy import Engine, func, select

from envfarm.core.errors import EnvfarmError, StoreError, boundary
from envfarm.stores.sql import Sql

log = logging.getLogger(__name__)

CHANNEL = "envfarm_bells"
PAYLOAD_BYTES = 7_900
"""PostgreSQL takes fewer than 8,000."""
MOST_PAYLOADS = 8
"""Of one sending. What would need more is sent as "all bells"."""
GAP_S = 0.02
"""Between two sendings of one process: NOTIFY takes a lock of the whole server, and rings come in swarms."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
"""Before the next try to connect."""
ALIVE = {"keepalives": 1, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""A peer that vanished without a word is noticed within half a minute."""

Rung = Callable[[Sequence[str] | None], None]
"""Told the names of bells that were rung elsewhere; None for all."""


class BellWire(Protocol):
    """Between the bells of processes."""

    def send(self, names: Sequence[str]) -> None:
        """Have these rung elsewhere, soon. Never waits, and never raises."""
        ...

    async def run(self, rung: Rung) -> None:
        """Carry rings both ways until this is cancelled."""
        ...


class NoWire:
    """Of a farm on SQLite: its processes find out by looking again."""

    def send(self, names: Sequence[str]) -> None:
        """Nobody is told."""

    async def run(self, rung: Rung) -> None:  # noqa: ARG002 - see BellWire
        """Nothing comes."""
        await asyncio.Event().wait()


class PostgresWire:
    """Between all processes that use one PostgreSQL database."""

    def __init__(self, engine: Engine) -> None:
        self._sql = Sql(engine)
        self._address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._me = secrets.token_hex(4)
        self._waiting: dict[str, None] = {}
        self._some = asyncio.Event()

    def send(self, names: Sequence[str]) -> None:
        """See `BellWire.send`."""
        self._waiting.update(dict.fromkeys(names))
        self._some.set()

    async def run(self, rung: Rung) -> None:
        """See `BellWire.run`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send())
            tasks.create_task(self._listen(rung))

    async def _send(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            names, self._waiting = list(self._waiting), {}
            notify = [select(func.pg_notify(CHANNEL, payload)) for payload in payloads(self._me, names)]
            try:
                await self._sql.write("ring", lambda c, notify=notify: [c.execute(one) for one in notify])  # type: ignore[misc]
            except EnvfarmError as e:
                log.warning("other processes could not be told: %s", e)  # they look again by themselves
            await asyncio.sleep(GAP_S)

    async def _listen(self, rung: Rung) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            try:
                with boundary(StoreError, "listening to other processes"):
                    async for names in self._heard():
                        wait_s = FIRST_WAIT_S
                        rung(names)
            except EnvfarmError as e:
                log.warning("%s; again in %.1f s", e, wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _heard(self) -> AsyncIterator[Sequence[str] | None]:
        import psycopg  # noqa: PLC0415 - of the extra `postgres`

        async with await psycopg.AsyncConnection.connect(self._address, autocommit=True, **ALIVE) as connection:  # type: ignore[arg-type]
            await connection.execute(f"LISTEN {CHANNEL}")
            yield None  # whatever was rung while nobody listened
            async for notice in connection.notifies():
                sender, names = json.loads(notice.payload)
                if sender != self._me:
                    yield names


def payloads(sender: str, names: Sequence[str]) -> Iterator[str]:
    """The rings as payloads of bounded size and number."""
    batches: list[list[str]] = [[]]
    room = PAYLOAD_BYTES - 64
    for name in names:
        size = len(json.dumps(name)) + 2
        if size > room:
            batches.append([])
            room = PAYLOAD_BYTES - 64
        batches[-1].append(name)
        room -= size
        if len(batches) > MOST_PAYLOADS or room < 0:
            yield json.dumps([sender, None])
            return
    yield from (json.dumps([sender, batch]) for batch in batches)


def wire_of(engine: Engine) -> BellWire:
    """The wire that this database gives."""
    return PostgresWire(engine) if engine.dialect.name == "postgresql" else NoWire()
