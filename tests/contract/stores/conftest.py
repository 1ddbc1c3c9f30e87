"""Every test of the SQL stores runs twice: on SQLite, and on a real PostgreSQL (`url`)."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine

from envfarm.stores.sql import open_database


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Engine]]:
    """A further engine of the same database, as another process would have it."""
    engines: list[Engine] = []

    def another() -> Engine:
        engines.append(open_database(url))
        return engines[-1]

    yield another
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(opened: Callable[[], Engine]) -> Engine:
    return opened()
