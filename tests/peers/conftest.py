"""A served farm for other projects' trainers, and the locations of those projects."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.program.conftest import NAME, add_task
from tests.integration.program.process import press_ctrl_c, started

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Served:
    """A farm with one task."""

    url: str
    token: str
    task: str = NAME


@pytest.fixture(scope="package")
def farm() -> Iterator[Served]:
    """`envfarm serve` with real boxes. Not below pytest's own directory: boxes of other users must see the layers."""
    home = Path(tempfile.mkdtemp(prefix="envfarm-test-", dir="/var/tmp"))
    home.chmod(0o755)
    asyncio.run(add_task(home))
    with started(home, "serve", "--port", "0") as process:
        assert process.stdout is not None
        url, token = (process.stdout.readline().decode().split(" ", 1)[1].strip() for _ in range(2))
        yield Served(url, token)
        press_ctrl_c(process)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def trl_image() -> str:
    image = "envfarm-peers/trl"
    look = ["docker", "image", "inspect", image]
    if shutil.which("docker") is None or subprocess.run(look, check=False, capture_output=True).returncode:
        pytest.skip("needs Docker and TRL: tests/peers/get trl")
    return image


def interpreter(package: str) -> Path:
    """The Python that has a package, in an environment of its own below `.peers`."""
    python = ROOT / ".peers" / package / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs {package} in an environment of its own: tests/peers/get {package}")
    return python
