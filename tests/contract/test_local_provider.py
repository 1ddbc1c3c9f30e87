"""The conformance suite on local boxes, as whoever runs the tests: root or an ordinary user."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.image import ImageRef
from envfarm.core.sandbox import ExecRequest
from envfarm.sandboxes import local
from envfarm.sandboxes.local import LocalProvider
from envfarm.sandboxes.local_ownership import Ownership
from envfarm.sandboxes.local_walls import Walls
from envfarm.testing import conformance_disk
from envfarm.testing.conformance import CHECKS, Check, ConformanceFailure
from tests.contract.conftest import Factory


@pytest.fixture
def factory() -> Factory:
    return Factory(ImageRef(kind="host", digest=digest.of_bytes(b"host")))


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path, factory: Factory) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(tmp_path / "home", boxd, factory.blobs)
    factory.look = lambda: set(Ownership(tmp_path / "home" / "boxes").known())
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: LocalProvider, factory: Factory) -> None:
    await check.run(provider, factory)


@pytest.mark.parametrize("check", conformance_disk.CHECKS, ids=lambda check: check.name)
async def test_a_box_without_limits_does_not_conform(check: Check, tmp_path: Path, boxd: Path, factory: Factory) -> None:
    provider = LocalProvider(tmp_path / "home", boxd, factory.blobs, walls=Walls(limits=False))
    with pytest.raises(ConformanceFailure, match="a box of"):
        await check.run(provider, factory)
    await provider.aclose()


@pytest.mark.parametrize(
    "fill", ["head -c 400000000 /dev/zero >f", "exec 3>f; rm f; head -c 400000000 /dev/zero >&3", "seq 50000 | xargs touch"]
)
async def test_a_box_on_a_disk_is_stopped(fill: str, provider: LocalProvider, factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "MEMORY_DISK_MIB", 0)
    box = await provider.create(factory.spec().model_copy(update={"disk_mib": 64, "disk_inodes": 5000}))
    assert (await box.exec(ExecRequest(shell=f"{fill}; sleep 20", timeout_s=60))).limit_hit == "disk"
