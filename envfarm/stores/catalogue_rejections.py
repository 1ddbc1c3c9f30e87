"""What did not become a task, kept in the index: nothing is dropped silently. A part of the catalogue."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.ids import Digest
from envfarm.stores.catalogue_schema import REJECTIONS, insert_or_replace, store_errors


class Rejections:
    """Rejections by source record: the latest of a record stands."""

    def __init__(self, engine: sa.Engine, index: Path, now: Callable[[], datetime]) -> None:
        self._engine, self._index, self._now = engine, index, now

    async def add(self, *rejections: Rejection) -> None:
        """Keep rejections, each in place of an earlier one of the same record; all of them or none."""
        rows = [self._row(rejection) for rejection in rejections]

        def run() -> None:
            with store_errors(self._index), self._engine.begin() as connection:
                for row in rows:
                    insert_or_replace(connection, REJECTIONS, row)

        await asyncio.to_thread(run)

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

        def run() -> None:
            with store_errors(self._index), self._engine.begin() as connection:
                connection.execute(sa.delete(REJECTIONS).where(REJECTIONS.c.source_digest == source))

        await asyncio.to_thread(run)

    async def rows(self, *, gate: Gate | None = None, name: str = "") -> list[Rejection]:
        """Rejections, by name; those of one gate or of one project where asked."""
        query = sa.select(REJECTIONS.c.body).order_by(REJECTIONS.c.name, REJECTIONS.c.source_digest)
        query = query.where(REJECTIONS.c.gate == gate.value) if gate else query
        query = query.where(REJECTIONS.c.name == name) if name else query

        def run() -> list[str]:
            with store_errors(self._index), self._engine.connect().execution_options(read_only=True) as connection:
                return list(connection.scalars(query))

        return [Rejection.model_validate(json.loads(body)) for body in await asyncio.to_thread(run)]

    async def counts(self) -> Counter[tuple[str, str]]:
        """How often each (gate, reason) occurs."""
        return Counter((r.gate.value, r.reason) for r in await self.rows())
