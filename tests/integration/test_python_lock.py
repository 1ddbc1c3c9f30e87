"""Locks made with the real resolver and a real index."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import uv

from envfarm import settings
from envfarm.core.errors import ImageError
from envfarm.core.recipe import Recipe, Toolchain
from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.project import Project
from task_builders.languages.python import facts, recipe
from task_builders.languages.python.lock import UvResolver

pytestmark = pytest.mark.network


def wished(requirement: str, *, year: int = 2022, name: str = "made-up") -> Recipe:
    text = f"from setuptools import setup\nsetup(name={name!r}, install_requires=[{requirement!r}])"
    project = Project("made/up", MemoryTree({"setup.py": text}))
    return recipe.ladder(project, facts.read(project), datetime(year, 5, 2, tzinfo=UTC), [Toolchain(name="python", version="3.10.1")])[0]


@pytest.fixture
def resolver() -> UvResolver:
    return UvResolver(Path(uv.find_uv_bin()), variables=settings.read().variables)


async def test_a_lock_is_pinned_as_of_the_date_and_without_the_project(resolver: UvResolver) -> None:
    lock = (await resolver.lock(wished("pip", name="iniconfig"))).files[recipe.LOCKED]
    pins = dict(line.split("==") for line in lock.split("\n") if line)
    assert pins["pytest"].startswith("7.1.")
    assert "iniconfig" not in pins


async def test_what_no_release_meets_is_an_error_that_says_so(resolver: UvResolver) -> None:
    with pytest.raises(ImageError, match="pip>=999"):
        await resolver.lock(wished("pip>=999"))
