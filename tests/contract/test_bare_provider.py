"""The conformance suite on boxes without walls."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.testing.bare import BareProvider
from envfarm.testing.conformance import CHECKS, Check
from tests.contract.conftest import Factory

HAS = frozenset({"programs", "fencing"})


class Workplaces(Factory):
    """Boxes without walls: each needs a work dir of its own."""

    def __init__(self, home: Path) -> None:
        super().__init__(ImageRef(kind="host", digest=digest.of_bytes(b"bare")))
        self.home = home
        self._count = itertools.count()

    def spec(self) -> SandboxSpec:
        return SandboxSpec(environment=Environment(image=self._image, work_dir=str(self.home / f"work-{next(self._count)}")))


@pytest.fixture
def factory(tmp_path: Path) -> Workplaces:
    return Workplaces(tmp_path)


@pytest.fixture
async def provider(boxd: Path, factory: Workplaces) -> AsyncIterator[BareProvider]:
    provider = BareProvider(factory.home, boxd, factory.blobs)
    factory.look = lambda: provider.open_boxes
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", [check for check in CHECKS if check.needs <= HAS], ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: BareProvider, factory: Workplaces) -> None:
    await check.run(provider, factory)
