"""What local boxes are made of, and what is left when their owner is killed."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import BoxLost, BuildOutage, ImageError, SandboxError
from envfarm.core.ids import BoxId, Digest, EpisodeId, RunId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import ExecRequest, Mount, Network, SandboxSpec
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.local import LocalProvider, file_system_of
from envfarm.sandboxes.local_ownership import Labels, Ownership, children_of
from envfarm.testing.archives import entry, tar_of
from envfarm.testing.blobs import MemoryBlobs


def layer(home: Path, files: dict[str, str], *, root: bool = False) -> Digest:
    name = digest.of_json(files)
    tree = home / "layers" / name.removeprefix("sha256:") / "tree"
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o755 if text.startswith("#!") else 0o640 if path.startswith("opt/") else 0o644)
    (tree.parent / "meta.json").write_text(json.dumps({"root": root}))
    return name


def spec_of(image: ImageRef, **changes: object) -> SandboxSpec:
    spec = SandboxSpec(environment=Environment(image=image, work_dir="/testbed"), disk_mib=256, memory_mib=512, pids=128)
    return spec.model_copy(update=changes)


HOST = ImageRef(kind="host", digest=digest.of_bytes(b"host"))


def layers_of(*layers: Digest, toolchains: tuple[str, ...] = ()) -> ImageRef:
    return ImageRef(kind="layers", digest=digest.of_json([*layers, *toolchains]), layers=layers, toolchains=toolchains)


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(tmp_path / "home", boxd, MemoryBlobs())
    yield provider
    await provider.aclose()


async def said(box: BoxdBox, command: str) -> str:
    result = await box.exec(ExecRequest(shell=command, timeout_s=20))
    assert result.ok, result.text
    return result.stdout.decode().strip()


async def test_layers_lie_over_each_other_and_over_the_host(provider: LocalProvider, tmp_path: Path) -> None:
    home = tmp_path / "home"
    low = layer(
        home, {"opt/venv/bin/tool": "#!/bin/sh\necho low\n", "opt/venv/kept": "kept", "usr/include/low.h": "low", "etc/low.conf": "low"}
    )
    high = layer(home, {"opt/venv/bin/tool": "#!/bin/sh\necho high\n", "usr/include/high.h": "high", "lib/from-old-package": "old"})
    box = await provider.create(spec_of(layers_of(low, high)))
    assert (
        await said(box, "/opt/venv/bin/tool; cat /opt/venv/kept /usr/include/low.h /usr/include/high.h /etc/low.conf /lib/from-old-package")
        == "high\nkeptlowhighlowold"
    )
    assert await said(box, "test -x /usr/bin/env && getent passwd agent | cut -d: -f1") == "agent"
    await said(
        box,
        "cd /opt/venv && echo mine >kept && chmod 600 kept && rm bin/tool && touch -d 2001-01-01 . && stat -c %U kept | grep agent",
    )
    assert not (await box.exec(ExecRequest(shell="echo x >/usr/include/low.h || rm /usr/include/high.h"))).ok
    other = await provider.create(spec_of(layers_of(low, high)))
    assert await said(other, "/opt/venv/bin/tool; cat /opt/venv/kept") == "high\nkept"


async def test_a_layer_with_a_root_of_its_own_has_no_host_in_it(provider: LocalProvider, tmp_path: Path) -> None:
    home = tmp_path / "home"
    root = layer(home, {"etc/issue": "an image", "usr/share/mark": "of the image"}, root=True)
    tree = home / "layers" / root.removeprefix("sha256:") / "tree"
    busybox = shutil.which("busybox")
    if busybox is None:
        for program in ("sh", "cat", "ls", "touch"):
            _copy_with_libraries(Path(f"/usr/bin/{program}"), tree)
    else:
        _copy_with_libraries(Path(busybox), tree)
    box = await provider.create(spec_of(layers_of(root)))
    result = await box.exec(
        ExecRequest(
            argv=("/bin/sh", "-c", "cat /etc/issue /usr/share/mark; touch /usr/new /testbed/new && ls /usr; ls /usr/include; ls /var/lib")
        )
    )
    assert result.stdout.startswith(b"an imageof the image"), result.text
    assert b"new" in result.stdout
    assert b"include" in result.stderr, "the host's /usr is visible"


def _copy_with_libraries(program: Path, tree: Path) -> None:
    wanted = {program.resolve()}
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    wanted |= {Path(word) for word in listed.split() if word.startswith("/")}
    for path in wanted:
        target = tree / (f"bin/{program.name}" if path == program.resolve() else str(path).lstrip("/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


async def test_toolchains_are_on_the_path(provider: LocalProvider, tmp_path: Path) -> None:
    tool = tmp_path / "home" / "toolchains" / "made-1.2.3" / "bin" / "made"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho made by hand\n")
    tool.chmod(0o755)
    box = await provider.create(spec_of(layers_of(toolchains=("made-1.2.3",))))
    assert await said(box, "made") == "made by hand"
    assert not (await box.exec(ExecRequest(shell="echo x >/opt/made-1.2.3/bin/made"))).ok


async def test_hidden_parts_of_the_host_are_empty(provider: LocalProvider) -> None:
    hidden = ("/usr/share/doc", "/usr/bin/env", "/usr/share/of-another-machine")
    spec = SandboxSpec(environment=Environment(image=HOST, work_dir="/testbed", hidden=hidden), disk_mib=256, memory_mib=512, pids=128)
    box = await provider.create(spec)
    assert await said(box, "ls -A /usr/share/doc") == ""
    assert await said(box, "cat /usr/bin/env 2>/dev/null | wc -c") == "0"
    assert await said(box, "touch /usr/share/doc/new 2>/dev/null || echo read-only") == "read-only"
    umount = await box.exec(ExecRequest(shell="umount /usr/share/doc; ls -A /usr/share/doc", user="root", timeout_s=20))
    assert not umount.stdout


async def test_a_change_is_carried_with_no_more_than_one_copy_of_it(provider: LocalProvider) -> None:
    size = 48 << 20
    box, other = await provider.create(spec_of(HOST)), await provider.create(spec_of(HOST))
    await box.mark(["/testbed"])
    await said(box, f"head -c {size} /dev/urandom >large")
    tracemalloc.start()
    change = await box.diff()
    _, taking = tracemalloc.get_traced_memory()
    digest_there = await said(box, "md5sum <large")
    tracemalloc.reset_peak()
    await other.restore(change)
    _, putting = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taking < 2.3 * size, "the archive and what is read from it"
    assert putting < 1.2 * size, "the change itself"
    assert await said(other, "md5sum <large") == digest_there


async def test_what_is_missing_is_an_image_error(provider: LocalProvider) -> None:
    gone = digest.of_bytes(b"gone")
    for image in (layers_of(gone), layers_of(toolchains=("gone-1",)), layers_of(toolchains=("../..",)), ImageRef(kind="oci", digest=gone)):
        with pytest.raises(ImageError):
            await provider.create(spec_of(image))
    for work_dir in ("/usr/src/app", "/proc/x", "/etc"):
        with pytest.raises(ImageError):
            await provider.create(SandboxSpec(environment=Environment(image=HOST, work_dir=work_dir)))
    assert list(provider._ownership.known()) == []


@pytest.mark.parametrize("work_dir", ["/", "/testbed", "/home/agent/project", "/opt/deep/er/place", "/srv/app"])
async def test_the_work_dir_is_where_it_is_asked_for(provider: LocalProvider, work_dir: str) -> None:
    box = await provider.create(SandboxSpec(environment=Environment(image=HOST, work_dir=work_dir)))
    assert await said(box, "pwd") == work_dir
    if work_dir != "/":
        assert await said(box, "echo x >file && cat file") == "x"


async def test_builds_have_mounts_disk_and_the_hosts_network(provider: LocalProvider, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "old").write_text("from before")
    mounts = (Mount(source=str(cache), target="/home/agent/.cache", writable=True), Mount(source=str(cache), target="/opt/read"))
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        box = await provider.create(spec_of(HOST, mounts=mounts, network=Network.OPEN))
        assert await said(box, "cat /home/agent/.cache/old; echo new >/home/agent/.cache/new") == "from before"
        assert not (await box.exec(ExecRequest(shell="echo x >/opt/read/new"))).ok
        assert await said(box, f"bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' && echo reached") == "reached"
    assert (cache / "new").read_text() == "new\n"
    if file_system_of(cache) != "overlay":  # there owners cannot be mapped
        assert (cache / "new").stat().st_uid == os.getuid()
    with pytest.raises(ImageError):
        await provider.create(spec_of(HOST, mounts=mounts))


async def test_a_checkout_and_a_layer_with_a_torn_note_cost_no_box_its_start(tmp_path: Path, boxd: Path) -> None:
    blobs = MemoryBlobs()
    checkout = await blobs.put(tar_of(("testbed/file", b"whole")))
    home = tmp_path / "home"
    low = layer(home, {"opt/low": "low"})
    spec = spec_of(layers_of(low))
    spec = spec.model_copy(update={"environment": spec.environment.model_copy(update={"checkout": checkout})})
    provider = LocalProvider(home, boxd, blobs)
    await (await provider.create(spec)).close()
    place = home / "layers" / checkout.digest.removeprefix("sha256:")
    (place / "meta.json").write_text('{"kind": "che')
    (place / "tree/testbed/file").write_bytes(b"")
    assert await said(await provider.create(spec), "cat /testbed/file") == "whole"
    (home / "layers" / low.removeprefix("sha256:") / "meta.json").write_bytes(b"")
    with pytest.raises(BuildOutage, match="not on this machine, or damaged"):
        await provider.create(spec)
    await provider.aclose()


@pytest.mark.parametrize("made_again", [False, True])
async def test_a_box_whose_layer_was_taken_away_is_lost_and_not_broken(
    provider: LocalProvider, tmp_path: Path, *, made_again: bool
) -> None:
    low = layer(tmp_path / "home", {"opt/low": "low"})
    spec = spec_of(layers_of(low))
    box = await provider.create(spec)
    assert await said(box, "cat /opt/low") == "low"
    assert await provider.holds(spec.environment)
    place = tmp_path / "home/layers" / low.removeprefix("sha256:")
    place.rename(tmp_path / "away")
    assert not await provider.holds(spec.environment)
    if made_again:
        assert layer(tmp_path / "home", {"opt/low": "low"}) == low
    with pytest.raises(BoxLost, match="was removed or replaced"):
        await box.exec(ExecRequest(shell="cat /opt/low"))


async def test_who_is_stopped_while_it_prepares_leaves_nothing(tmp_path: Path, boxd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, let_go, done, hold = threading.Event(), threading.Event(), threading.Event(), Ownership.hold

    def slow_hold(ownership: Ownership) -> None:
        begun.set()
        let_go.wait(10)
        hold(ownership)
        done.set()

    monkeypatch.setattr(Ownership, "hold", slow_hold)
    provider = LocalProvider(tmp_path / "home", boxd, MemoryBlobs())
    creating = asyncio.create_task(provider.create(spec_of(HOST)))
    await asyncio.to_thread(begun.wait, 10)
    creating.cancel()
    asyncio.get_running_loop().call_later(0.2, let_go.set)
    await asyncio.wait({creating})
    assert creating.cancelled()
    await provider.aclose()
    await asyncio.to_thread(done.wait, 10)
    assert not list((tmp_path / "home/boxes").iterdir())


async def test_a_hostile_checkout_is_refused(tmp_path: Path, boxd: Path) -> None:
    blobs = MemoryBlobs()
    provider = LocalProvider(tmp_path / "home", boxd, blobs)
    out = entry("testbed/out", kind=tarfile.SYMTYPE, link=str(tmp_path))
    for archive in (
        tar_of(("../x", b"x")),
        tar_of(out, ("testbed/out/x", b"x")),
        b"no tar at all" * 100,
    ):
        environment = Environment(image=HOST, checkout=await blobs.put(archive), work_dir="/testbed")
        with pytest.raises(ImageError):
            await provider.create(SandboxSpec(environment=environment))
    assert not (tmp_path / "x").exists()
    assert [path.name for path in (tmp_path / "home" / "layers").iterdir()] == []
    await provider.aclose()


OWNER = """
import asyncio, sys
from pathlib import Path
from envfarm.core import digest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.sandboxes.local import LocalProvider
from envfarm.sandboxes.local_ownership import Labels
from envfarm.testing.blobs import MemoryBlobs

async def main():
    provider = LocalProvider(Path(sys.argv[1]), Path(sys.argv[2]), MemoryBlobs())
    spec = SandboxSpec(environment=Environment(image=ImageRef(kind="host", digest=digest.of_bytes(b""))))
    while True:
        box = await provider.create(spec)
        await box.exec(ExecRequest(shell=f"setsid sleep {sys.argv[3]} >/dev/null 2>&1 &"))
        print(box.box_id, flush=True)

asyncio.run(main())
"""


async def test_a_killed_owner_leaves_nothing_behind(provider: LocalProvider, tmp_path: Path, boxd: Path) -> None:
    mark = f"86400.{os.getpid()}"
    sibling = await provider.create(spec_of(HOST))
    root = str(Path(__file__).parents[2])
    argv = (sys.executable, "-c", OWNER, str(tmp_path / "home"), str(boxd), mark)
    owner = await asyncio.create_subprocess_exec(*argv, env={"PYTHONPATH": root, "PATH": os.defpath}, stdout=asyncio.subprocess.PIPE)
    assert owner.stdout is not None
    boxes = [BoxId((await owner.stdout.readline()).decode().strip()) for _ in range(3)]
    assert set(boxes) <= set(provider._ownership.known())
    assert await provider.collect_left_overs() == 0, "a live owner's boxes were taken"
    async with asyncio.timeout(10):  # a background process becomes `sleep` a little after its command has ended
        while _sleeping(mark) < 3:  # noqa: ASYNC110 - another process's children
            await asyncio.sleep(0.02)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    assert await provider.collect_left_overs() >= 3
    assert _sleeping(mark) == 0
    left = {path.name for path in (tmp_path / "home" / "boxes").iterdir()}
    assert left == {f".owner-{provider._ownership.owner_id}", sibling.box_id}
    assert await said(sibling, "echo alive") == "alive"


def _sleeping(mark: str) -> int:
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += path.read_bytes().startswith(b"sleep\0" + mark.encode())
        except OSError:
            continue
    return count


@pytest.mark.parametrize("victim", ["bubblewrap", "boxd"])
async def test_a_box_that_is_killed_from_outside_is_lost_and_not_broken(provider: LocalProvider, victim: str) -> None:
    box = await provider.create(spec_of(HOST))
    labels = provider._ownership.read(box.box_id)
    assert labels is not None
    os.kill(labels.pid if victim == "bubblewrap" else children_of(labels.pid)[0][0], signal.SIGKILL)
    with pytest.raises(BoxLost):
        await box.exec(ExecRequest(shell="sleep 300"))  # on a busy machine the killed may still run for a moment, and answer
    await box.close()


async def test_ids_that_are_none_are_refused(provider: LocalProvider) -> None:
    for bad in ("../../etc", "x", "a-b-c", ".owner-1"):
        with pytest.raises(SandboxError):
            await provider.destroy(BoxId(bad))


NO_LABELS = Labels(run_id=RunId(""), episode_id=EpisodeId(""), deadline=None)


async def test_nothing_stays_after_aclose(tmp_path: Path, boxd: Path) -> None:
    provider = LocalProvider(tmp_path / "home", boxd, MemoryBlobs())
    await provider.create(spec_of(HOST))
    await provider.create(spec_of(HOST, network=Network.OPEN))
    groups = [Path(group) for known in provider._ownership.known() for group in (provider._ownership.read(known) or NO_LABELS).groups]
    await provider.aclose()
    assert list((tmp_path / "home" / "boxes").iterdir()) == []
    assert [group for group in groups if group.exists()] == []
