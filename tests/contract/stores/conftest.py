"""Every test of the SQL stores runs twice: on SQLite, and on a real PostgreSQL."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from envfarm.stores.sql import open_database
from envfarm.testing import postgres


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    pytest.importorskip("psycopg", reason=postgres.HOW_TO_GET)
    tools = postgres.programs()
    if tools is None:
        pytest.skip(postgres.HOW_TO_GET)
    with postgres.cluster(tools) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'farm.db'}"
    made: postgres.Cluster = request.getfixturevalue("cluster")
    return made.database()


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
