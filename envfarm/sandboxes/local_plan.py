"""From a box's spec to the launcher's mounts and bubblewrap's arguments. Pure.

A box's root has three kinds of parts. The system (/usr, /bin, /lib…, /etc): a base system or the host's, with layers on top, read-only.
Areas (/home, /opt, /tmp, /var, the work dir's, and others that layers bring): writable, on top of what layers and the checkout have there.
Its own /proc and /dev. An image with its own root uses nothing of the host: its layers are one writable tree.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from envfarm.core.errors import ImageError
from envfarm.core.sandbox import Network, SandboxSpec
from envfarm.sandboxes.local_stage import IN_BOX_ID, OVERLAYS, SPACE, TREES
from envfarm.sandboxes.local_walls import Walls

BOXD = "/.envfarm/boxd"
"""The path of boxd in a box."""
HOME = "/home/agent"
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc")
"""Read-only in a box without its own root."""
RESERVED = frozenset({*SYSTEM, "proc", "dev", "sys", ".envfarm"})
AREAS = {"home": 0o755, "opt": 0o755, "tmp": 0o1777, "var": 0o755, "run": 0o755}
"""Writable in every box, with their modes."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - in the box
INSIDE = (("home/agent", 0o755), ("var/tmp", 0o1777), ("var/log", 0o755), ("var/cache", 0o755), ("var/lib", 0o755))


class Tree(NamedTuple):
    """An unpacked layer or checkout."""

    path: Path
    tops: frozenset[str]
    """The directories at its top."""
    root: bool
    """Whether it is a complete root, which replaces the host's."""
    system: bool = False
    """Whether it is a base system: read-only, it replaces the host's /usr and the other system directories."""


class Parts(NamedTuple):
    """Host paths of a box's parts."""

    bwrap: str
    """The program's path, relative to `tools` or absolute."""
    tools: Path
    """Holds `boxd`, and `bwrap` if it is the packaged one."""
    etc: Path
    system: Path | None
    """A base system's tree, which replaces the host's directories."""
    system_directories: dict[str, str]
    """Of the base system or the host: names with link targets; an empty target for a real directory."""
    layers: Sequence[Tree]
    """On top of the system, lowest first; the checkout is last."""
    toolchains: dict[str, Path]
    """By name."""
    disk: Path | None
    """A directory for the writable space; None to keep it in memory."""
    space_bytes: int
    as_root: bool
    """Whether the farm is root."""
    attached: Mapping[str, Path]
    """Read-only directories below /opt that are not part of the environment."""
    hidden: Sequence[Path] = ()
    """Paths of the host's system that are hidden in the box."""
    usage: tuple[Path, str] | None = None
    """The kernel's counter of the box's CPU time, and where boxd reads it."""


class Plan(NamedTuple):
    """A request to the launcher."""

    stage: dict[str, Any]
    argv: list[str]
    path: str
    """The box's PATH."""


class _Drawing:
    """The stage and the arguments while they are assembled."""

    def __init__(self) -> None:
        self.trees: list[dict[str, Any]] = []
        self.overlays: list[dict[str, Any]] = []
        self.directories: list[tuple[str, int]] = []
        self.binds: list[str] = []

    def tree(self, source: Path, *, owned: bool, writable: bool = False) -> str:
        self.trees.append({"source": str(source), "owned": owned, "writable": writable})
        return f"{TREES}/{len(self.trees) - 1}"

    def overlay(self, lower: list[str], name: str = "", mode: int = 0o755) -> str:
        """An overlay to mount; writable if it has a name."""
        upper, work = (f"{SPACE}/u/{name}", f"{SPACE}/w/{name}") if name else ("", "")
        if name:
            self.directories += [(upper, mode), (work, 0o700)]
        self.overlays.append({"lower": lower, "upper": upper, "work": work})
        return f"{OVERLAYS}/{len(self.overlays) - 1}"


def plan(spec: SandboxSpec, parts: Parts, walls: Walls) -> Plan:
    """Plan a box. Raises `ImageError` for an environment that cannot be a box."""
    drawing = _Drawing()
    drawing.directories += [(f"{SPACE}/{name}", 0o755) for name in ("u", "w", "a")]
    drawing.directories.append((f"{SPACE}/shm", 0o1777))
    tools = drawing.tree(parts.tools, owned=False)
    stacked = [(drawing.tree(tree.path, owned=True), tree) for tree in reversed(parts.layers)]
    own_root = bool(parts.layers) and parts.layers[0].root
    if not walls.hidden_files:
        drawing.binds += ["--bind", "/", "/"]
    elif own_root:
        _own_root(drawing, stacked, spec)
    else:
        _system(drawing, stacked, parts, walls)
        _hide(drawing, parts.hidden)
        for area, mode in _areas(spec, stacked).items():
            _area(drawing, stacked, area, mode, spec)
    mounts, path = _extras(drawing, spec, parts)
    stage = {
        "trees": drawing.trees,
        "overlays": drawing.overlays,
        "directories": drawing.directories,
        "disk": str(parts.disk) if parts.disk else "",
        "memory_bytes": 1 << 20 if parts.disk else parts.space_bytes,
        "inodes": spec.disk_inodes if walls.limits else 0,
    }
    bwrap = parts.bwrap if parts.bwrap.startswith("/") else f"{tools}/{parts.bwrap}"
    argv = [bwrap, *_switches(spec, walls, as_root=parts.as_root), *drawing.binds, *_kernel_mounts(walls), *mounts]
    boxd = BOXD if walls.hidden_files else f"{tools}/boxd"
    if walls.hidden_files:
        argv += ["--dir", "/sys", "--ro-bind", f"{tools}/boxd", BOXD]
        if parts.usage is not None:
            argv += ["--ro-bind-try", str(parts.usage[0]), parts.usage[1]]
        if walls.read_only_system and not own_root:
            argv += ["--remount-ro", "/"]
    return Plan(stage, [*argv, "--chdir", "/", "--", boxd, "serve", "--config-fd", "3"], path)


def _system(drawing: _Drawing, stacked: list[tuple[str, Tree]], parts: Parts, walls: Walls) -> None:
    bind = "--ro-bind" if walls.read_only_system else "--bind"
    etc = drawing.tree(parts.etc, owned=False)
    base = drawing.tree(parts.system, owned=False) if parts.system else ""
    for name, link in {**parts.system_directories, "etc": ""}.items():
        over = [f"{tree}/{name}" for tree, known in stacked if name in known.tops]
        lowest = etc if name == "etc" else f"{base}/{name}"
        if link:
            drawing.binds += ["--symlink", link, f"/{name}"]
        else:
            drawing.binds += [bind, drawing.overlay([*over, lowest]) if over else lowest, f"/{name}"]
    for name, link in parts.system_directories.items():
        over = [f"{tree}/{name}" for tree, known in stacked if name in known.tops]
        if link and over:  # a layer from before the /usr merge: its /lib goes on top of /usr/lib
            below = [f"{tree}/{link}" for tree, known in stacked if (known.path / link).is_dir()]
            drawing.binds += [bind, drawing.overlay([*over, *below, f"{base}/{link}"]), f"/{link}"]


def _hide(drawing: _Drawing, hidden: Sequence[Path]) -> None:
    for path in hidden:
        if path.is_dir():
            drawing.binds += ["--perms", "0555", "--tmpfs", str(path), "--remount-ro", str(path)]
        else:
            drawing.binds += ["--ro-bind", "/dev/null", str(path)]


def _areas(spec: SandboxSpec, stacked: list[tuple[str, Tree]]) -> dict[str, int]:
    areas = dict(AREAS)
    names = {name for _, tree in stacked for name in tree.tops}
    work_top = PurePosixPath(spec.environment.work_dir).parts[1:2]
    for name in sorted({*names, *work_top} - set(SYSTEM)):
        if name in RESERVED:
            hint = "the work dir and layers must be outside /proc, /dev and /sys"
            raise ImageError(f"/{name} cannot be part of an environment", hint=hint)
        areas.setdefault(name, 0o755)
    if work_top and work_top[0] in SYSTEM:
        raise ImageError(
            f"the work dir {spec.environment.work_dir} is in the read-only system", hint="choose one such as /testbed or one below /opt"
        )
    return areas


def _area(drawing: _Drawing, stacked: list[tuple[str, Tree]], area: str, mode: int, spec: SandboxSpec) -> None:
    lower = [f"{tree}/{area}" for tree, known in stacked if area in known.tops]
    if lower:
        seen, base = drawing.overlay(lower, area, mode), f"{SPACE}/u/{area}"
    else:
        seen = base = f"{SPACE}/a/{area}"
        drawing.directories.append((base, mode))
    inside = [(path, mode) for path, mode in INSIDE if path.startswith(area + "/")]
    work = PurePosixPath(spec.environment.work_dir).parts[1:]
    if work and work[0] == area:
        chain = ["/".join(work[:end]) for end in range(2, len(work) + 1)]
        inside += [(path, 0o755) for path in chain if path not in dict(inside)]
    drawing.directories += [(base + path.removeprefix(area), mode) for path, mode in inside]
    drawing.binds += ["--bind", seen, f"/{area}"]


def _own_root(drawing: _Drawing, stacked: list[tuple[str, Tree]], spec: SandboxSpec) -> None:
    whole = drawing.overlay([tree for tree, _ in stacked], "root")
    made = {PurePosixPath(HOME), PurePosixPath(spec.environment.work_dir)}
    made = {parent for path in made for parent in (path, *path.parents)} - {PurePosixPath("/")}
    drawing.directories += [(f"{SPACE}/u/root{path}", 0o755) for path in sorted(made, key=lambda p: len(p.parts))]
    drawing.directories += [(f"{SPACE}/u/root/tmp", 0o1777)]
    drawing.binds += ["--bind", whole, "/"]


def _extras(drawing: _Drawing, spec: SandboxSpec, parts: Parts) -> tuple[list[str], str]:
    """Toolchains, attached layers and the spec's mounts, and a PATH with the toolchains."""
    arguments, path = [], []
    for name, source in parts.toolchains.items():
        arguments += ["--ro-bind", drawing.tree(source, owned=False), f"/opt/{name}"]
        path.append(f"/opt/{name}/bin")
    for name, source in parts.attached.items():
        arguments += ["--ro-bind", drawing.tree(source, owned=False), f"/opt/{name}"]
    if spec.mounts and spec.network is not Network.OPEN:
        hint = "mounts are for building environments, with an open network"
        raise ImageError("a box with a closed network cannot have mounts of the host", hint=hint)
    for mount in spec.mounts:
        seen = drawing.tree(Path(mount.source), owned=True, writable=mount.writable)
        arguments += ["--bind" if mount.writable else "--ro-bind", seen, mount.target]
    return arguments, ":".join([*path, "/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _switches(spec: SandboxSpec, walls: Walls, *, as_root: bool) -> list[str]:
    switches = ["--unshare-cgroup-try", "--die-with-parent", "--new-session"]
    if walls.own_processes:
        switches += ["--unshare-pid", "--as-pid-1"]
    if walls.own_network and spec.network is Network.CLOSED:
        switches.append("--unshare-net")
    if walls.own_ipc:
        switches.append("--unshare-ipc")
    if walls.own_names:
        switches += ["--unshare-uts", "--hostname", "box"]
    if walls.no_privilege:
        switches += ["--unshare-user", "--uid", str(IN_BOX_ID), "--gid", str(IN_BOX_ID), "--cap-drop", "ALL"]
    elif as_root:
        switches += ["--cap-add", "ALL"]
    else:
        switches += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "ALL"]
    if walls.seccomp:
        switches += ["--seccomp", "5"]
    return switches


def _kernel_mounts(walls: Walls) -> list[str]:
    proc = ["--proc", "/proc"] if walls.own_processes else ["--bind", "/proc", "/proc"]
    dev = (
        ["--dev", "/dev", "--bind", f"{SPACE}/shm", SHARED_MEMORY, "--remount-ro", "/dev"]
        if walls.own_devices
        else ["--dev-bind", "/dev", "/dev"]
    )
    return [*proc, *dev]
