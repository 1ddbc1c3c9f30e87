"""Recipes built by a real Docker: the shared layer once, project steps without network, nothing of the host's settings in the image."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import docker
import pytest

from envfarm import settings
from envfarm.core.errors import BuildOutage, ImageError
from envfarm.core.image import BlobRef
from envfarm.core.recipe import InstallStep, Recipe
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.images.build_variables import for_builds
from envfarm.images.checkout import checkout_archive
from envfarm.images.docker_build import CONTEXT_CERTIFICATES, LAYER_LABEL, WORKSHOP_LABEL, DockerBuilder
from envfarm.images.dockerfile import CERTIFICATES, render
from envfarm.images.project_checkout import BuildLimits
from envfarm.sandboxes.docker import DockerProvider
from envfarm.stores.blobs import FileBlobStore
from envfarm.testing.factories import make_recipe
from envfarm.testing.git_repository import Repository

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]
BASE = "python:3.11-slim"
SECRET_PLACE = "https://index.invalid/simple"


class Workplace(NamedTuple):
    provider: DockerProvider
    builder: DockerBuilder
    blobs: FileBlobStore


@pytest.fixture(scope="module")
def client(docker_daemon: str) -> Iterator[docker.DockerClient]:
    """Docker, with the base image; what the tests built is removed at the end."""
    client = docker.DockerClient(base_url=docker_daemon, timeout=30)
    before = {image.id for image in client.images.list()}
    try:
        client.images.get(BASE)
        yield client
    except docker.errors.ImageNotFound:
        pytest.skip(f"{BASE} is not in Docker: docker pull {BASE}")
    finally:
        for label in (WORKSHOP_LABEL, LAYER_LABEL):
            for image in client.images.list(filters={"label": label}):
                if image.id not in before:
                    client.images.remove(str(image.id), force=True)
        client.close()


@pytest.fixture
async def place(tmp_path: Path, boxd: Path, client: docker.DockerClient) -> AsyncIterator[Workplace]:
    blobs = FileBlobStore(tmp_path / "blobs")
    provider = DockerProvider(tmp_path / "home", boxd, blobs)
    variables = {**settings.read().variables, "UV_EXTRA_INDEX_URL": SECRET_PLACE}
    builder = DockerBuilder(provider, tmp_path / "cache", blobs=blobs, uv_version=version("uv"), variables=variables)
    yield Workplace(provider, builder, blobs)
    await provider.aclose()


def recipe(*dependencies: str, project: tuple[str, ...] = ()) -> Recipe:
    return make_recipe(
        env={"TZ": "UTC"},
        files={"/opt/envfarm/lock.txt": "made-up==1.0\n"},
        dependencies=tuple(InstallStep(run=run) for run in dependencies),
        project=tuple(InstallStep(run=run) for run in project),
    )


def commit(tmp_path: Path) -> bytes:
    repository = Repository.make(tmp_path / "repository")
    repository.commit("one", {"made_up.py": "answer = 42\n"})
    return checkout_archive(repository.path, "HEAD")


async def test_an_environment_is_built_once_and_works(place: Workplace, client: docker.DockerClient, tmp_path: Path) -> None:
    checkout: BlobRef = await place.blobs.put(await asyncio.to_thread(commit, tmp_path))
    link = "test $(tail -n +3 /proc/net/dev | wc -l) = 1 && echo /testbed > /opt/venv/lib/python3.11/site-packages/made_up.pth"
    wanted = recipe('uv venv --python "$PYTHON" /opt/venv && cp /opt/envfarm/lock.txt /opt/venv/made-from', project=(link,))
    first = await place.builder.build(wanted, checkout=checkout)
    again = await place.builder.build(wanted, checkout=checkout)
    assert (again.facts.layer_reused, again.facts.checkout_reused) == (True, True)
    assert again.environment == first.environment
    assert first.facts.layer_bytes > 0

    box = await place.provider.create(SandboxSpec(environment=first.environment))
    use = "cd / && python -B -c 'import made_up; print(made_up.answer)' && cat /opt/venv/made-from"
    command = f"{use} && git -C /testbed status --porcelain && id -u"
    result = await box.exec(ExecRequest(argv=("sh", "-c", command)))
    assert result.text == "42\nmade-up==1.0\n1000\n"
    await box.close()

    built = client.images.get(first.environment.image.reference)
    assert SECRET_PLACE not in str(built.history())
    assert SECRET_PLACE not in str(built.attrs)


async def test_a_failing_step_is_told_with_its_log(place: Workplace) -> None:
    with pytest.raises(ImageError, match="ended with status 7:") as told:
        await place.builder.build(recipe("echo about to fail; exit 7"), checkout=None)
    assert "about to fail" in str(told.value)
    assert "exit 7" in await asyncio.to_thread(Path(told.value.hint.rpartition(" ")[2]).read_text)


@pytest.mark.parametrize("endless", ["while :; do echo and on; sleep 0.1; done", "sleep 600"], ids=["tells", "is silent"])
async def test_a_step_without_an_end_fails_by_its_time(place: Workplace, client: docker.DockerClient, tmp_path: Path, endless: str) -> None:
    builder = DockerBuilder(
        place.provider, tmp_path, blobs=place.blobs, uv_version=version("uv"), variables={}, limits=BuildLimits(step_timeout_s=3)
    )
    before = set(map(str, client.containers.list()))
    with pytest.raises(ImageError, match="ended with a timeout:") as told:
        await builder.build(recipe(f"{endless} # {tmp_path}"), checkout=None)
    assert not isinstance(told.value, BuildOutage)
    while set(map(str, client.containers.list())) - before:  # noqa: ASYNC110 - Docker rings no bell of this test
        await asyncio.sleep(0.1)


async def test_an_image_that_was_removed_is_missed(place: Workplace, client: docker.DockerClient, tmp_path: Path) -> None:
    wanted = recipe(f"echo an image to remove # {tmp_path}")
    made = (await place.builder.build(wanted, checkout=None)).environment
    assert await place.provider.holds(made)
    client.images.remove(made.image.reference, force=True)
    assert not await place.provider.holds(made)
    assert await place.provider.holds((await place.builder.build(wanted, checkout=None)).environment)


@pytest.mark.parametrize("index_is_there", [False, True], ids=["an index elsewhere", "an index on the loopback"])
async def test_steps_reach_the_hosts_loopback_only_where_an_index_is_on_it(
    place: Workplace, tmp_path: Path, *, index_is_there: bool
) -> None:
    def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"the host")
        writer.close()

    async with await asyncio.start_server(tell, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ask = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 5).recv(8))"
        step = f'"$PYTHON" -c "{ask}" > /opt/said 2>&1; true'
        variables = settings.read().variables
        if index_is_there:
            variables = {**variables, "UV_EXTRA_INDEX_URL": f"http://127.0.0.1:{port}/simple"}
        builder = DockerBuilder(place.provider, tmp_path / "cache", blobs=place.blobs, uv_version=version("uv"), variables=variables)
        environment = (await builder.build(recipe(step), checkout=None)).environment
    box = await place.provider.create(SandboxSpec(environment=environment))
    said = (await box.exec(ExecRequest(argv=("cat", "/opt/said"), cwd="/"))).text
    await box.close()
    assert said.strip().rpartition("\n")[2] == (
        "b'the host'" if index_is_there else "ConnectionRefusedError: [Errno 111] Connection refused"
    )


async def test_the_whole_dockerfile_builds_to_the_same_environment(client: docker.DockerClient, tmp_path: Path) -> None:
    wanted = recipe(
        'uv venv --python "$PYTHON" /opt/venv',
        project=("echo /testbed > /opt/venv/lib/python3.11/site-packages/made_up.pth && test $(id -u) = 1000 && touch made-here",),
    )
    pem = for_builds(settings.read().variables, certificates_at=CERTIFICATES)
    certificates = CONTEXT_CERTIFICATES if pem.certificates else None
    text = render(wanted, checkout="checkout.tar", uv_version=version("uv"), arguments=tuple(pem.env), certificates=certificates)

    def build() -> str:
        folder = tmp_path / "context"
        folder.mkdir()
        (folder / "Dockerfile").write_text(text)
        (folder / "checkout.tar").write_bytes(commit(tmp_path))
        if pem.certificates:
            (folder / CONTEXT_CERTIFICATES).write_bytes(pem.certificates.read_bytes())
        image, _ = client.images.build(path=str(folder), buildargs=pem.env, network_mode="host", rm=True, forcerm=True)
        use = "python -B -c 'import made_up; print(made_up.answer)'; git status --porcelain; stat -c %U made_up.py; id -un"
        try:
            return bytes(client.containers.run(str(image.id), ["sh", "-c", use], remove=True)).decode()
        finally:
            client.images.remove(str(image.id), force=True)

    assert await asyncio.to_thread(build) == "42\n?? made-here\nagent\nagent\n"
