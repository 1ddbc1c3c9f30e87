"""Hostile code in a local box: every probe fails.

Each succeeds in a box whose wall is down, so that none fails for want of trying.
"""

# ruff: noqa: ASYNC240 - what is on the host is made by plain calls

import asyncio
import ctypes
import os
import shutil
import signal
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import BoxBroken, BoxLost
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.local import LocalProvider
from envfarm.sandboxes.local_walls import ALL_UP, Walls
from envfarm.testing.blobs import MemoryBlobs
from tests.hacking.probes import PRELUDE, PROBES, WALLS_WITH_PROBES, Probe

AS_ROOT = os.geteuid() == 0
OpenBox = Callable[[Walls], Awaitable[BoxdBox]]


@pytest.fixture
async def open_box(tmp_path: Path) -> AsyncIterator[OpenBox]:
    providers: list[LocalProvider] = []

    async def create(walls: Walls) -> BoxdBox:
        provider = LocalProvider(tmp_path / f"home-{len(providers)}", boxd_binary.find(), MemoryBlobs(), walls=walls)
        providers.append(provider)
        image = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
        spec = SandboxSpec(environment=Environment(image=image, work_dir="/"), memory_mib=256, disk_mib=64, pids=64)
        return await provider.create(spec)

    yield create
    for provider in providers:
        await provider.aclose()


@pytest.fixture
async def host() -> AsyncIterator[dict[str, object]]:
    """What is to be reached: a secret in a file, behind sockets, in a process, in shared memory."""
    nonce = uuid.uuid4().hex
    place = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="envfarm-probe-"))
    place.chmod(0o755)
    secret = place / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)

    async def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"secret")
        await writer.drain()
        writer.close()

    tcp = await asyncio.start_server(tell, "127.0.0.1", 0)
    named = await asyncio.start_unix_server(tell, place / "socket")
    (place / "socket").chmod(0o666)
    abstract = await asyncio.start_unix_server(tell, f"\0{nonce}")
    sleeper = await asyncio.create_subprocess_exec("sleep", "1000", env={"MARK": nonce, "PATH": os.defpath}, executable="/bin/sleep")
    argv, variables = ("sh", "-c", f"sleep 1000; : {nonce}"), {"MARK": nonce, "PATH": os.defpath}
    marked = await asyncio.create_subprocess_exec(*argv, env=variables, start_new_session=True)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    key = int(nonce[:7], 16) + 1
    segment = libc.shmget(key, 16, 0o1666)
    ctypes.memmove(libc.shmat(segment, None, 0), b"secret", 6)
    yield {
        "secret": secret,
        "home": next((str(place) for place in Path("/home").iterdir()), "/root"),
        "socket": place / "socket",
        "devices": repr(
            sorted(
                {place.name for place in Path("/dev").iterdir()}
                - {
                    "null",
                    "zero",
                    "full",
                    "random",
                    "urandom",
                    "tty",
                    "pts",
                    "ptmx",
                    "shm",
                    "fd",
                    "core",
                    "stdin",
                    "stdout",
                    "stderr",
                    "console",
                }
            )
        ),
        "nonce": nonce,
        "mark": nonce,
        "pid": marked.pid,
        "port": tcp.sockets[0].getsockname()[1],
        "abstract": nonce,
        "shared": key,
        "host": socket.gethostname(),
    }
    libc.shmctl(segment, 0, None)
    sleeper.kill()
    os.killpg(marked.pid, signal.SIGKILL)
    for process in (sleeper, marked):
        await process.wait()
    for server in (tcp, named, abstract):
        server.close()
        await server.wait_closed()
    shutil.rmtree(place)
    Path(f"/dev/planted-{nonce}").unlink(missing_ok=True)


async def attack(box: BoxdBox, probe: Probe, host: dict[str, object]) -> str:
    program = PRELUDE + probe.program.format(**host)
    result = await box.exec(ExecRequest(argv=("/usr/bin/python3", "-I", "-c", program), timeout_s=20, cwd="/"))
    return result.text


@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the probes are written for the system's Python: install python3")
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name.replace(" ", "-"))
class TestProbes:
    async def test_it_fails_in_a_box(self, probe: Probe, open_box: OpenBox, host: dict[str, object]) -> None:
        box = await open_box(ALL_UP)
        assert "REACHED" not in await attack(box, probe, host)
        assert (await box.exec(ExecRequest(shell="echo alive"))).stdout == b"alive\n"

    async def test_it_succeeds_without_the_wall(self, probe: Probe, open_box: OpenBox, host: dict[str, object]) -> None:
        if probe.root_only and not AS_ROOT:
            pytest.skip("the kernel asks for privilege on the host: run as root")
        if not probe.can_be_done():
            pytest.skip("this kernel, file system or container lets nobody do it")
        said = await attack(await open_box(probe.down), probe, host)
        assert "REACHED" in said, said


def test_every_wall_has_a_probe() -> None:
    assert {field.name for field in fields(Walls)} == WALLS_WITH_PROBES


async def test_killing_boxd_needs_the_wall_down(open_box: OpenBox) -> None:
    end_it = "for p in /proc/[0-9]*; do grep -q 'boxd' $p/cmdline 2>/dev/null && kill -9 ${p#/proc/}; done; sleep 0.2; echo on"
    walled = await open_box(ALL_UP)
    for number in (9, 15, 19, 6, 11):
        await walled.exec(ExecRequest(shell=f"kill -{number} 1"))
    await walled.exec(ExecRequest(shell=end_it))
    assert (await walled.exec(ExecRequest(shell="echo alive"))).stdout == b"alive\n"
    control = await open_box(Walls(own_processes=False))
    with pytest.raises((BoxLost, BoxBroken)):
        await control.exec(ExecRequest(shell=end_it))


STARVE_BOXD = """
limit(boxd, 9, 1 << 20), limit(boxd, 2, 1 << 20)
import time
for _ in range(3000): os.write(1, os.urandom(65536))
time.sleep(2)
"""
ORDINARY = """
import mmap, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))
assert resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE) == (64, 64)
os.nice(1), os.setpriority(os.PRIO_PROCESS, os.getpid(), 19), os.sched_setaffinity(os.getpid(), os.sched_getaffinity(0))
fd = os.open(sys.executable, os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
assert os.preadv(fd, [bytearray(4)], 0, 0) == 4
mmap.mmap(fd, 4096, prot=mmap.PROT_READ).madvise(mmap.MADV_WILLNEED)
print("fine")
"""


async def test_a_box_that_ends_its_own_boxd_is_broken_and_not_lost(open_box: OpenBox) -> None:
    control = await open_box(Walls(seccomp=False))
    program = ExecRequest(argv=("/usr/bin/python3", "-I", "-c", PRELUDE + STARVE_BOXD), timeout_s=20, cwd="/", output_bytes=1 << 24)
    with pytest.raises(BoxBroken, match="boxd ended with status 2"):
        await control.exec(program)
    walled = await open_box(ALL_UP)
    await walled.exec(program)
    assert (await walled.exec(ExecRequest(shell="echo alive"))).stdout == b"alive\n"


async def test_ordinary_programs_go_through_the_filter(open_box: OpenBox) -> None:
    box = await open_box(ALL_UP)
    said = await box.exec(ExecRequest(argv=("/usr/bin/python3", "-I", "-c", PRELUDE + ORDINARY), timeout_s=20, cwd="/"))
    assert said.text == "fine\n", said


def _owners_of_sleepers() -> list[int]:
    owners = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if b"sleep\x00300" in (path / "cmdline").read_bytes() and (path / "ns/pid").readlink() != Path("/proc/self/ns/pid").readlink():
                owners.append(path.stat().st_uid)
        except OSError:
            continue
    return owners


@pytest.mark.skipif(not AS_ROOT, reason="only a farm that is root gives each box a uid of its own")
async def test_every_box_has_a_uid_of_its_own_and_none_is_root(open_box: OpenBox) -> None:
    for _ in range(3):
        box = await open_box(ALL_UP)
        await box.exec(ExecRequest(shell="sleep 300 >/dev/null 2>&1 &"))
    owners: list[int] = []
    async with asyncio.timeout(20):  # the shell is back before its child has become `sleep`
        while len(owners) < 3:
            owners = _owners_of_sleepers()
            await asyncio.sleep(0.05)
    assert len(owners) == len(set(owners)) == 3
    assert min(owners) > 10_000
