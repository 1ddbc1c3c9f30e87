"""What did not become a task, kept in the index: nothing is dropped silently. A part of the catalogue.

Rejections are in no files of the catalogue, since the builds' journals hold them.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.ids import Digest
from envfarm.stores.catalogue_schema import REJECTIONS
from envfarm.stores.sql import Sql, insert_or_replace


class Rejections:
    """Rejections by source record: the latest of a record stands."""

    def __init__(self, sql: Sql, now: Callable[[], datetime]) -> None:
        self._sql, self._now = sql, now

    async def add(self, *rejections: Rejection) -> None:
        """Keep rejections, each in place of an earlier one of the same record; all of them or none."""
        rows = [self._row(rejection) for rejection in rejections]

        def work(c: sa.Connection) -> None:
            for row in rows:
                insert_or_replace(c, REJECTIONS, row)

        await self._sql.write("add rejections", work)

    def _row(self, rejection: Rejection) -> dict[str, object]:
        return {
            "source_digest": rejection.source_digest,
            "name": rejection.name,
            "url": rejection.url,
            "gate": rejection.gate.value,
            "reason": rejection.reason,
            # Escaped, since logs and paths may carry bytes that are no text.
            "body": json.dumps(rejection.model_dump(mode="json")),
            "rejected_at": self._now(),
        }

    async def remove(self, source: Digest) -> None:
        """Forget a record's rejection: it has become a task after all."""
        gone = sa.delete(REJECTIONS).where(REJECTIONS.c.source_digest == source)
        await self._sql.write("remove a rejection", lambda c: c.execute(gone))

    async def rows(self, *, gate: Gate | None = None, name: str = "") -> list[Rejection]:
        """Rejections, by name; those of one gate or of one project where asked."""
        query = sa.select(REJECTIONS.c.body).order_by(REJECTIONS.c.name, REJECTIONS.c.source_digest)
        query = query.where(REJECTIONS.c.gate == gate.value) if gate else query
        query = query.where(REJECTIONS.c.name == name) if name else query
        bodies = await self._sql.read("rejections", lambda c: c.scalars(query).all())
        return [Rejection.model_validate(json.loads(body)) for body in bodies]

    async def counts(self) -> Counter[tuple[str, str]]:
        """How often each (gate, reason) occurs."""
        return Counter((r.gate.value, r.reason) for r in await self.rows())
