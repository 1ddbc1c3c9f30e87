"""The conformance suite on Docker boxes, and what is Docker's own: images, the daemon's restart of nothing, left-over boxes."""

from collections.abc import AsyncIterator
from pathlib import Path

import docker
import pytest

from envfarm.core import digest
from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.docker import DockerProvider
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.conformance import CHECKS, Check

pytestmark = pytest.mark.docker
IMAGE = "python:3.11-slim"


class Factory:
    def __init__(self, blobs: MemoryBlobs, image: str) -> None:
        self._blobs = blobs
        self._image = image

    def spec(self) -> SandboxSpec:
        image = ImageRef(kind="oci", digest=digest.of_bytes(self._image.encode()), reference=self._image)
        return SandboxSpec(environment=Environment(image=image, work_dir="/testbed"), disk_mib=256, memory_mib=512, pids=256)

    async def blob(self, archive: bytes) -> BlobRef:
        return await self._blobs.put(archive)


@pytest.fixture(scope="session")
def image() -> str:
    """An image with sh, bash and coreutils; skipped where Docker or the image cannot be had."""
    try:
        client = docker.DockerClient(base_url="unix:///var/run/docker.sock", timeout=10)
    except docker.errors.DockerException as e:
        pytest.skip(f"Docker does not answer: {e}. Start it, and let this user talk to it")
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        pytest.skip(f"{IMAGE} is not in Docker: docker pull {IMAGE}")
    finally:
        client.close()
    return IMAGE


@pytest.fixture
def factory(image: str) -> Factory:
    return Factory(MemoryBlobs(), image)


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path, factory: Factory) -> AsyncIterator[DockerProvider]:
    provider = DockerProvider(tmp_path / "home", boxd, factory._blobs)
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: DockerProvider, factory: Factory) -> None:
    await check.run(provider, factory)
