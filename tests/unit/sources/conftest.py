"""Small real repositories for the tests of sources."""

from collections.abc import Callable
from pathlib import Path

import pytest

from envfarm.testing.git_repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[], Repository]:
    """Makes an empty repository."""

    def make() -> Repository:
        return Repository.make(tmp_path / f"repository {len(list(tmp_path.iterdir()))}", day=0)

    return make
