"""Builders on a real Ray whose node has another home than the driver: all that a task is made of goes by Ray."""

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from envfarm.cli.stopping import STOPPED
from envfarm.settings import read
from envfarm.testing.git_repository import Repository
from envfarm.wiring import Farm
from tests.chaos.processes import in_session
from tests.integration.program.conftest import NAME, add_task
from tests.integration.program.process import PROGRAM, envfarm
from tests.integration.ray_head import begun, kill_session, needed, ray_head, ray_node
from tests.integration.test_minting import repository as repository

pytestmark = needed
TOML = "[[source]]\nkind = \"git\"\nrepository = '''{}'''\nname = \"acme/rockets\"\ncommits = {{ newest = 3 }}\n"


@pytest.fixture
def homes() -> Iterator[tuple[Path, Path]]:
    """The driver's and the node's. Outside pytest's own: boxes of other users must be able to see the layers."""
    with tempfile.TemporaryDirectory(prefix="envfarm-test-", dir="/var/tmp", ignore_cleanup_errors=True) as made:
        for place in (driver := Path(made, "driver"), node := Path(made, "node")):
            place.mkdir()
        Path(made).chmod(0o755)
        yield driver, node


@asynccontextmanager
async def program(home: Path, *arguments: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    process = begun(*PROGRAM, *arguments, ENVFARM_HOME=str(home))
    try:
        yield process
    finally:
        await kill_session(process)
        assert process.stdout is not None
        process.stdout.close()


def lines(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.read().decode()


@pytest.mark.network
async def test_a_history_on_the_drivers_machine_becomes_a_task_there_beside_a_node_that_cannot_build(
    homes: tuple[Path, Path], repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home, node = homes
    sources = tmp_path / "sources.toml"
    sources.write_text(TOML.format(repository))
    command = ("build", str(sources), "--on", "ray", "--repeats", "1", "--no-attacks")
    async with (
        ray_head(ENVFARM_HOME=str(node)) as (address, _),
        ray_node(address, ENVFARM_HOME="/dev/null/home"),
        program(home, *command, "--address", address) as process,
    ):
        told = await asyncio.to_thread(lines, process)
        assert process.wait() == 0, told
    said = capfd.readouterr().err
    assert "not built on " in said
    assert "/dev/null/home" in said
    assert "1 builder on Ray" in said
    assert (node / "layers").is_dir()
    assert not (home / "layers").exists(), "the driver has built nothing"
    async with Farm(read().model_copy(update={"home": home})) as farm:
        (row,) = await farm.catalogue.rows()
        task = await farm.catalogue.get(row.digest)
        assert task.plan.fail_to_pass == ("tests/test_rockets.py::test_countdown_ends_at_zero",)
        assert task.checkout is not None
        assert await farm.blobs.get(task.checkout)
    assert "acme/rockets\t" in told


async def test_a_builder_that_dies_is_started_again_and_judges_nothing(homes: tuple[Path, Path]) -> None:
    home, node = homes
    await add_task(home)
    command = ("tasks", "validate", NAME, "--on", "ray", "--repeats", "1", "--no-attacks")
    async with ray_head(ENVFARM_HOME=str(node)) as (address, head), program(home, *command, "--address", address) as process:
        builders: list[int] = []
        while not builders or not (node / "catalogue").exists():
            assert process.poll() is None, lines(process)
            builders = [pid for pid in in_session(head.pid) if is_builder(pid)]
            await asyncio.sleep(0.02)
        os.kill(builders[0], signal.SIGKILL)
        told = await asyncio.to_thread(lines, process)
        assert process.wait() in (0, 1), told
    async with Farm(read().model_copy(update={"home": home})) as farm:
        (row,) = await farm.catalogue.rows()
        (seen,) = await farm.catalogue.reports(row.digest)
    assert seen.gold == (1.0,)
    assert seen.nop == (0.0,)


async def test_who_stops_it_leaves_no_builder_and_no_box(homes: tuple[Path, Path]) -> None:
    home, node = homes
    await add_task(home)
    command = ("tasks", "validate", NAME, "--on", "ray", "--repeats", "5", "--no-attacks")
    async with ray_head(ENVFARM_HOME=str(node)) as (address, head), program(home, *command, "--address", address) as process:
        while not boxes(node):
            assert process.poll() is None, lines(process)
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == STOPPED
        assert not boxes(node)
        while any(is_builder(pid) for pid in in_session(head.pid)):  # noqa: ASYNC110 - Ray tells nobody
            await asyncio.sleep(0.1)


def test_an_address_where_no_ray_listens(homes: tuple[Path, Path], tmp_path: Path) -> None:
    sources = tmp_path / "sources.toml"
    sources.write_text(TOML.format(Repository.make(tmp_path / "empty").path))
    told = envfarm(homes[0], "build", sources, "--on", "ray", "--address", "127.0.0.1:9")
    assert told.status == 1
    assert told.error.startswith("error: no Ray listens at 127.0.0.1:9")


def is_builder(pid: int) -> bool:
    try:
        return "RayBuilder" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def boxes(node: Path) -> list[Path]:
    place = node / "boxes"
    return list(place.iterdir()) if place.exists() else []
