"""The kernel kills in local boxes for want of memory: at the box's own limit, and where the machine has less than it promised."""

import contextlib
import os
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import SandboxError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.memory_blame import run_witnessed
from envfarm.sandboxes import local_groups
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing.blobs import MemoryBlobs

MEMORY_MIB, DISK_MIB, MACHINE_MIB = 256, 64, 160
OWN = local_groups.find()

pytestmark = [
    pytest.mark.skipif(OWN is None or "memory" not in OWN.kept, reason="boxes get no memory groups here: run as root, or delegate cgroups"),
    pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="what fills memory is written for the system's Python"),
]
HOLD = "import sys; held = bytearray(int(sys.argv[1]) << 20); print('held')"
SHARE = """
import ctypes
libc = ctypes.CDLL(None)
libc.shmat.restype = ctypes.c_void_p
for _ in range(40):  # the watchdog does not see segments that nobody has attached
    at = libc.shmat(libc.shmget(0, ctypes.c_size_t(32 << 20), 0o1600), None, 0)
    ctypes.memset(at, 1, 32 << 20)
    libc.shmdt(ctypes.c_void_p(at))
"""


async def made(provider: LocalProvider) -> BoxdBox:
    image = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
    return await provider.create(
        SandboxSpec(environment=Environment(image=image, work_dir="/"), memory_mib=MEMORY_MIB, disk_mib=DISK_MIB, pids=64)
    )


def python(program: str, *arguments: object) -> ExecRequest:
    return ExecRequest(argv=("/usr/bin/python3", "-I", "-c", program, *map(str, arguments)), cwd="/", timeout_s=30)


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(tmp_path / "home", boxd, MemoryBlobs())
    yield provider
    await provider.aclose()


@pytest.fixture
async def narrow_machine(provider: LocalProvider) -> AsyncIterator[LocalProvider]:
    """A provider on a machine that has less memory than each of its boxes may hold: a group above theirs."""
    host = await provider._prepared()
    assert host.groups is not None
    above = host.groups._parents["memory"] / f"narrow-{secrets.token_hex(4)}"
    above.mkdir()
    version = host.groups.version
    (above / ("memory.max" if version == local_groups.UNIFIED else "memory.limit_in_bytes")).write_text(str(MACHINE_MIB << 20))
    if version == local_groups.UNIFIED:
        (above / "cgroup.subtree_control").write_text("+memory")
    provider._host = host._replace(groups=local_groups.Groups({"memory": above}, version=version))
    yield provider
    await provider.aclose()
    with contextlib.suppress(FileNotFoundError):
        above.rmdir()


async def test_shared_memory_over_the_boxs_limit_is_the_boxs_fault(provider: LocalProvider) -> None:
    result = await run_witnessed(await made(provider), python(SHARE))
    assert (result.signal, result.limit_hit) == (signal.SIGKILL, "memory")


async def test_memory_that_the_machine_does_not_have_is_the_machines_fault(narrow_machine: LocalProvider) -> None:
    box = await made(narrow_machine)
    assert (await run_witnessed(box, python(HOLD, 16))).ok
    with pytest.raises(SandboxError, match=r"the machine ran out of memory.* its own limit of 256 MiB"):
        await run_witnessed(box, python(HOLD, MACHINE_MIB + 32))


async def test_a_command_that_kills_itself_is_nobodys_fault(provider: LocalProvider) -> None:
    result = await run_witnessed(await made(provider), python(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"))
    assert (result.signal, result.limit_hit) == (signal.SIGKILL, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only a farm that is root has groups of its boxes' own in every case")
async def test_the_counters_are_the_boxs_own(provider: LocalProvider) -> None:
    one, other = await made(provider), await made(provider)
    await one.exec(python(SHARE))
    assert not one.memory_kills().shared
    assert one.memory_kills().killed > 0
    assert (other.memory_kills().killed, other.memory_kills().own_limit) == (0, 0)
