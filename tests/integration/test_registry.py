"""Images in a real registry: environments that Docker built, and boxd's own, which needs no Docker."""

import json
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import docker
import httpx
import pytest

from envfarm import settings
from envfarm.core.errors import BuildOutage, UsageError
from envfarm.images import boxd_image
from envfarm.images.docker_build import LAYER_LABEL, PUSH_TRIES, DockerBuilder
from envfarm.images.registry import Registry
from envfarm.images.registry_builder import NAME, RegistryBuilder
from envfarm.sandboxes.boxd_binary import ARCHITECTURES
from envfarm.sandboxes.docker import DockerProvider
from envfarm.stores.blobs import FileBlobStore
from envfarm.testing.factories import make_recipe

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]
BASE = "python:3.11-slim"
HOW = "the program `docker-registry` is not here: apt-get install -y docker-registry"


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry of this test's own."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip(HOW)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = tmp_path_factory.mktemp("registry")
    config = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": str(place / "data")}}, "http": {"addr": f"127.0.0.1:{port}"}}
    (place / "config.yml").write_text(json.dumps(config))
    with subprocess.Popen([program, "serve", str(place / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 30
            while not _answers(port):
                assert process.poll() is None, "the registry ended"
                assert time.monotonic() < end, "the registry does not answer"
            yield f"localhost:{port}/envfarm"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/", timeout=1).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture
async def registry(prefix: str) -> AsyncIterator[Registry]:
    async with Registry(prefix) as registry:
        yield registry


async def test_boxds_image_is_pushed_once_and_runs(docker_daemon: str, registry: Registry, boxd: Path) -> None:
    binaries = {ARCHITECTURES[platform.machine()]: boxd, "other": boxd}
    reference = await boxd_image.push(registry, binaries)
    assert await boxd_image.push(registry, binaries) == reference
    name, _, known = reference.partition("@")
    assert await registry.digest_of(name.rpartition("/")[2], known) == known
    client = docker.DockerClient(base_url=docker_daemon, timeout=60)
    try:
        client.images.pull(reference)
        said = client.containers.run(reference, ["version"], remove=True, network_mode="none")
        assert said.strip()
    finally:
        client.images.remove(reference, force=True)
        client.close()


async def test_an_environment_is_pushed_and_found_again_without_docker(
    docker_daemon: str, registry: Registry, boxd: Path, tmp_path: Path
) -> None:
    client = docker.DockerClient(base_url=docker_daemon, timeout=60)
    try:
        client.images.get(BASE)
    except docker.errors.ImageNotFound:
        pytest.skip(f"{BASE} is not in Docker: docker pull {BASE}")
    blobs = FileBlobStore(tmp_path / "blobs")
    provider = DockerProvider(tmp_path / "home", boxd, blobs)
    own = DockerBuilder(provider, tmp_path / "cache", blobs=blobs, uv_version=version("uv"), variables=settings.read().variables)
    recipe = make_recipe(env={"MADE_UP": "registry"})

    def no_docker() -> DockerBuilder:
        raise AssertionError("Docker was asked for")

    try:
        first = await RegistryBuilder(lambda: own, registry, notes=tmp_path / "notes", blobs=blobs).build(recipe, checkout=None)
        image = first.environment.image
        assert image.reference == f"{registry.prefix}/{NAME}@{image.digest}"
        assert await registry.digest_of(NAME, image.digest) == image.digest
        again = await RegistryBuilder(no_docker, registry, notes=tmp_path / "notes", blobs=blobs).build(recipe, checkout=None)
        assert again.environment == first.environment
        assert again.facts.layer_reused
    finally:
        await provider.aclose()
        for found in client.images.list(filters={"label": f"{LAYER_LABEL}={recipe.layer_digest}"}):
            client.images.remove(str(found.id), force=True)
        client.close()


async def test_what_is_not_there_is_none_and_who_does_not_answer_is_an_outage(registry: Registry) -> None:
    assert await registry.digest_of(NAME, "never-pushed") is None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Registry(f"localhost:{port}/envfarm") as gone:
        with pytest.raises(BuildOutage, match="does not answer"):
            await gone.digest_of(NAME, "latest")


async def test_a_registry_that_fails_is_tried_again(docker_daemon: str, boxd: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    class Fails(BaseHTTPRequestHandler):
        """Has every layer, and fails where the manifest comes."""

        def do_GET(self) -> None:
            self.answer(200)

        def do_HEAD(self) -> None:
            self.answer(200)

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.append(self.path)
            self.answer(500)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    blobs = FileBlobStore(tmp_path / "blobs")
    async with aclosing(DockerProvider(tmp_path / "home", boxd, blobs)) as provider:
        builder = DockerBuilder(provider, tmp_path / "cache", blobs=blobs, uv_version=version("uv"), variables=settings.read().variables)
        with ThreadingHTTPServer(("127.0.0.1", 0), Fails) as server, ThreadPoolExecutor(1) as pool:
            pool.submit(server.serve_forever)
            try:
                with pytest.raises(BuildOutage, match="HTTP status: 500"):
                    await builder.push(BASE, f"localhost:{server.server_port}/envfarm/{NAME}", "x")
            finally:
                server.shutdown()
    assert len(seen) >= PUSH_TRIES


@pytest.mark.parametrize("prefix", ["", "localhost:5000", "https://registry.example/x", "registry.example/Big"])
def test_a_prefix_that_is_none(prefix: str) -> None:
    with pytest.raises(UsageError, match="no registry prefix"):
        Registry(prefix)
