"""The engines that sample for programs in boxes: one list for every process of a farm, kept beside its episodes.

Set by the API, followed by whoever has a gateway. Their keys are in it, as they are: who may read the database may ask the engines.
"""

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, delete, insert, select

from envfarm.core.engine import EngineSpec
from envfarm.stores.episode_schema import ENGINES
from envfarm.stores.sql import Sql


class SqlEngines:
    """The list of one database."""

    def __init__(self, engine: Engine) -> None:
        self._sql = Sql(engine)

    async def get(self) -> tuple[EngineSpec, ...]:
        """In the order that they were given in."""
        rows = await self._sql.read("engines", lambda c: c.scalars(select(ENGINES.c.spec).order_by(ENGINES.c.position)).all())
        return tuple(EngineSpec.model_validate_json(row) for row in rows)

    async def replace(self, engines: Sequence[EngineSpec]) -> None:
        """These and no others."""
        rows = [{"position": at, "spec": _written(spec)} for at, spec in enumerate(engines)]

        def work(c: Connection) -> None:
            c.execute(delete(ENGINES))
            if rows:
                c.execute(insert(ENGINES), rows)

        await self._sql.write("engines", work)


def _written(spec: EngineSpec) -> str:
    return json.dumps({**spec.model_dump(mode="json"), "api_key": spec.api_key.get_secret_value()})
