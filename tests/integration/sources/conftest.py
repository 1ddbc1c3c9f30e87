"""Fixtures for tests of sources over a network: a server on loopback, an upstream repository, and a clock that does not really wait."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from envfarm.testing.git_repository import Repository
from envfarm.testing.scripted_server import ScriptedServer, serving
from task_builders.sources.patience import Patience


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving(ScriptedServer()) as running:
        yield running


@dataclass
class HeldClock:
    """Time that only advances by waiting."""

    seconds: float = 1_700_000_000.0
    waits: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def patience(self) -> Patience:
        return Patience(now=lambda: self.seconds, sleep=self.sleep, progress=self.said.append)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "upstream")
