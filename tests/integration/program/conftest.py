"""Homes for the command-line program: an empty one, and one with a task that needs no network."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from envfarm.core.ids import TaskDigest
from envfarm.core.recipe import Toolchain
from envfarm.settings import read
from envfarm.testing import adder_task
from envfarm.testing.factories import make_recipe
from envfarm.wiring import Farm

NAME = "acme/adder-aaaa1111"


@pytest.fixture(scope="package")
def farm_home() -> Iterator[Path]:
    """A farm with one task that needs no network. Not below pytest's own directory: boxes of other users must see the layers."""
    home = Path(tempfile.mkdtemp(prefix="envfarm-test-", dir="/var/tmp"))
    home.chmod(0o755)
    asyncio.run(add_task(home))
    yield home
    shutil.rmtree(home, ignore_errors=True)


async def add_task(home: Path) -> TaskDigest:
    async with Farm(read().model_copy(update={"home": home})) as farm:
        blob = await farm.blobs.put(adder_task.checkout_archive())
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        recipe = make_recipe(toolchain=Toolchain(name="python", version=version))
        return await farm.catalogue.add(adder_task.make(name=NAME, recipe=recipe, checkout=blob.digest))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"
