"""The conformance suite on Docker boxes, and what is Docker's own: images, the token's way, left-over boxes."""

import errno
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import docker
import pytest

from envfarm.core import digest
from envfarm.core.errors import BoxLost, BuildOutage, ImageError
from envfarm.core.ids import EpisodeId, RunId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, Holder, SandboxSpec
from envfarm.episodes import cpu_blame
from envfarm.sandboxes.docker import DockerProvider
from envfarm.testing import conformance_disk
from envfarm.testing.conformance import CHECKS, Check
from tests.contract.conftest import Factory

pytestmark = pytest.mark.docker
IMAGE = "python:3.11-slim"


@pytest.fixture(scope="session")
def image(docker_daemon: str) -> str:
    """An image with sh, bash and coreutils; skipped where Docker or the image cannot be had."""
    client = docker.DockerClient(base_url=docker_daemon, timeout=10)
    try:
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        pytest.skip(f"{IMAGE} is not in Docker: docker pull {IMAGE}")
    finally:
        client.close()
    return IMAGE


def containers_of(home: Path) -> list[dict[str, str]]:
    """The labels of each container of a home's boxes."""
    with closing(docker.DockerClient(base_url="unix:///var/run/docker.sock", timeout=10)) as client:
        found = client.api.containers(all=True, filters={"label": f"envfarm.home={home / 'docker-boxes'}"})
    return [each["Labels"] for each in found]


@pytest.fixture
def factory(image: str) -> Factory:
    return Factory(ImageRef(kind="oci", digest=digest.of_bytes(image.encode()), reference=image))


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path, factory: Factory) -> AsyncIterator[DockerProvider]:
    provider = DockerProvider(tmp_path / "home", boxd, factory.blobs)
    factory.look = lambda: {labels["envfarm.box"] for labels in containers_of(tmp_path / "home")}
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: DockerProvider, factory: Factory) -> None:
    await check.run(provider, factory)


async def test_only_images_make_boxes(provider: DockerProvider, factory: Factory) -> None:
    spec = factory.spec()
    layers = ImageRef(kind="layers", digest=digest.of_bytes(b"layers"))
    with pytest.raises(ImageError, match="start from images") as told:
        await provider.create(spec.model_copy(update={"environment": Environment(image=layers)}))
    assert "local provider" in told.value.hint


async def test_an_image_that_cannot_be_had_is_an_image_error(provider: DockerProvider) -> None:
    image = ImageRef(kind="oci", digest=digest.of_bytes(b"none"), reference="localhost:9/no/such:image")
    with pytest.raises(BuildOutage, match="cannot be pulled"):
        await provider.create(SandboxSpec(environment=Environment(image=image)))


async def test_a_dead_makers_box_is_collected_and_a_living_ones_is_not(
    tmp_path: Path, boxd: Path, factory: Factory, provider: DockerProvider
) -> None:
    dead = DockerProvider(tmp_path / "home", boxd, factory.blobs)
    left = await dead.create(factory.spec())
    mine = await provider.create(factory.spec())
    assert await provider.collect_left_overs() == 0
    dead._ownership.release()  # what the kernel does with the lock of a process that is killed
    assert await factory.boxes() == {left.box_id, mine.box_id}
    assert await provider.collect_left_overs() == 1
    assert await factory.boxes() == {mine.box_id}
    assert (await mine.exec(ExecRequest(argv=("true",)))).ok
    await dead.aclose()


async def test_a_container_says_whose_it_is(provider: DockerProvider, factory: Factory, tmp_path: Path) -> None:
    holder = Holder(run_id=RunId("r"), episode_id=EpisodeId("e"), deadline=datetime(2100, 1, 2, tzinfo=UTC))
    box = await provider.create(factory.spec().model_copy(update=dict(holder)))
    (labels,) = containers_of(tmp_path / "home")
    said = {name: labels[f"envfarm.{name}"] for name in ("box", "run", "episode", "deadline")}
    assert said == {"box": box.box_id, "run": "r", "episode": "e", "deadline": "2100-01-02T00:00:00+00:00"}


@pytest.mark.parametrize("check", conformance_disk.CHECKS, ids=lambda check: check.name)
async def test_the_disk_is_limited_where_the_image_holds_the_work_dir(check: Check, provider: DockerProvider, factory: Factory) -> None:
    factory.work_dir = "/usr/local/bin"
    await check.run(provider, factory)


async def test_a_box_within_its_limits_may_fill_and_empty_its_disk(provider: DockerProvider, factory: Factory) -> None:
    factory.work_dir = "/usr/local/bin"
    box = await provider.create(factory.spec().model_copy(update={"disk_mib": 64, "disk_inodes": 5000}))
    for _ in range(4):
        assert (
            await box.exec(ExecRequest(shell="head -c 50000000 /dev/zero >f && seq 4000 | xargs touch && rm f [0-9]*", timeout_s=60))
        ).ok


async def test_what_an_image_has_in_the_work_dir_is_seen(provider: DockerProvider, factory: Factory) -> None:
    environment = factory.spec().environment.model_copy(update={"work_dir": "/usr/local/bin"})
    box = await provider.create(factory.spec().model_copy(update={"environment": environment}))
    assert (await box.exec(ExecRequest(argv=("ls",)))).stdout != b""
    await box.close()


async def test_the_token_is_nowhere_on_the_host_or_in_the_container(provider: DockerProvider, factory: Factory, tmp_path: Path) -> None:
    box = await provider.create(factory.spec())
    token = box._access.token
    client = await provider._prepared()
    assert token not in str(client.api.inspect_container(f"envfarm-{box.box_id}"))
    assert not any(token.encode() in path.read_bytes() for path in files(tmp_path / "home"))
    seen = await box.exec(ExecRequest(argv=("sh", "-c", "cat /proc/1/cmdline /proc/1/environ; ls /.envfarm /proc/1/fd")))
    assert token.encode() not in seen.stdout
    assert b"Permission denied" in seen.stderr
    await box.close()


async def test_sockets_that_no_network_namespace_holds_in_cannot_be_opened(provider: DockerProvider, factory: Factory) -> None:
    """Whatever the daemon's own filter says: older ones let AF_VSOCK and AF_ALG through."""
    program = (
        "import socket\nfor family in range(1, 46):\n try: socket.socket(family, {}).close()\n except OSError as e: print(family, e.errno)"
    )
    refused: set[int] = set(range(1, 46))
    box = await provider.create(factory.spec())
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.SOCK_RAW):
        said = await box.exec(ExecRequest(argv=("python3", "-c", program.format(int(kind))), cwd="/"))
        lines = [line.split() for line in said.stdout.decode().splitlines()]
        refused &= {int(family) for family, number in lines if int(number) == errno.EAFNOSUPPORT}
    assert refused == set(range(1, 46)) - {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert "Seccomp_filters:\t2" in (await box.exec(ExecRequest(shell="cat /proc/self/status"))).text
    await box.close()


async def test_what_the_kernel_kills_is_counted_outside_of_the_box(provider: DockerProvider, factory: Factory) -> None:
    share = """import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for _ in range(60):
    at = libc.shmat(libc.shmget(0, ctypes.c_size_t(32 << 20), 0o1600), None, 0)
    ctypes.memset(at, 1, 32 << 20)
    libc.shmdt(ctypes.c_void_p(at))
"""
    box = await provider.create(factory.spec())
    before = box.memory_kills()
    if before.shared:
        pytest.skip("the containers' control groups cannot be seen from here: run beside the daemon, not in a container")
    assert before.killed == 0
    await box.exec(ExecRequest(argv=("python3", "-c", share), cwd="/"))
    after = box.memory_kills()
    assert after.killed > 0
    assert after.own_limit > before.own_limit or (after.filled and not before.filled)
    await box.close()


def process_of(box: Box) -> int:
    client = docker.from_env()
    try:
        return int(client.api.inspect_container(f"envfarm-{box.box_id}")["State"]["Pid"])
    finally:
        client.close()


async def test_a_box_that_is_killed_from_outside_is_lost(provider: DockerProvider, factory: Factory) -> None:
    box = await provider.create(factory.spec())
    os.kill(process_of(box), signal.SIGKILL)
    with pytest.raises(BoxLost, match="killed from outside"):
        await box.exec(ExecRequest(shell="echo no"))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_command_that_ran_out_of_time_tells_what_its_container_used(provider: DockerProvider, factory: Factory) -> None:
    box = await provider.create(factory.spec())
    spun, slept = [await box.exec(ExecRequest(shell=shell, cwd="/", timeout_s=1)) for shell in ("while :; do :; done", "sleep 300")]
    if spun.contention is None or slept.contention is None:
        pytest.skip("the kernel of the containers does not say how long threads wait")
    assert spun.contention.box_cpu_s > 0
    assert slept.contention.waited_s < slept.contention.elapsed_s / 2
    assert cpu_blame.blame(slept, cpus=1.0)
