"""A service in this process, with in-memory boxes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.testing.small_service import SmallService


@pytest.fixture
async def farm(tmp_path: Path) -> AsyncIterator[SmallService]:
    farm = SmallService(tmp_path)
    await farm.open()
    yield farm
    await farm.close()
