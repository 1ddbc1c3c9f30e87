"""Fixtures shared by all tests: boxd (from the checkout or the wheel), databases, and the rules of a made-up language."""

import signal
import socket
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from envfarm.sandboxes import boxd_binary
from envfarm.testing import postgres

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--episodes 500` tests the gateway's exactness at the size of a release."""
    parser.addoption("--episodes", type=int, default=30, help="episodes for each dialect in test_gateway_exactness, streaming and not")


def pytest_configure() -> None:
    """Allow interrupting the programs under test even if the tests run in the background, where SIGINT is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each of several workers begin with its share of the slow modules, so that no long test is left to the end.

    pytest-xdist gives each worker a run of the list, as long as any other's, and lets those that are done take from the ends of others'.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers == 1:
        return

    def longest_s(tests: Sequence[pytest.Item]) -> float:
        limits = (test.get_closest_marker("timeout") for test in tests)
        return max(float(limit.args[0] if limit else config.getini("timeout")) for limit in limits)

    slow = [item for item in items if item.get_closest_marker("slow")]
    modules = sorted((list(tests) for _, tests in groupby(slow, lambda item: item.path)), key=longest_s, reverse=True)
    quick = iter([item for item in items if not item.get_closest_marker("slow")])
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        size, share = (len(items) - len(ordered)) // (workers - worker), list(chain(*modules[worker::workers]))
        ordered += [*share, *islice(quick, max(size - len(share), 0))]
    items[:] = ordered


@pytest.fixture(scope="session")
def boxd() -> Path:
    return boxd_binary.find()


@pytest.fixture(scope="session")
def docker_daemon() -> str:
    """Docker's address. Asked without docker-py, which leaves the socket of a connection that fails to the garbage collector."""
    path = "/var/run/docker.sock"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
    except OSError as e:
        pytest.skip(f"Docker does not answer at {path}: {e}. Start it, and let this user talk to it")
    return f"unix://{path}"


@pytest.fixture(scope="session")
def cluster() -> Iterator[postgres.Cluster]:
    """A PostgreSQL, one per pytest process."""
    pytest.importorskip("psycopg", reason=postgres.HOW_TO_GET)
    tools = postgres.programs()
    if tools is None:
        pytest.skip(postgres.HOW_TO_GET)
    with postgres.cluster(tools) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, for each kind of database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'farm.db'}"
    made: postgres.Cluster = request.getfixturevalue("cluster")
    return made.database()


class MadeUpRules:
    """A small language: `.py` below `tests/` is tests, other `.py` is source."""

    name = "madeup"

    def is_test(self, path: str) -> bool:
        return path.startswith("tests/")

    def is_source(self, path: str) -> bool:
        return path.endswith(".py") and not self.is_test(path)


@pytest.fixture
def rules() -> MadeUpRules:
    return MadeUpRules()
