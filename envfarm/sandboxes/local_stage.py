"""The stage of a local box: layers, overlays and writable space, mounted in a private mount namespace.

It runs in `local_launcher`'s children; standard library only. It carries out the `stage` of a request (see `local_plan`). It follows no
link of a layer, since every path is resolved before the box runs anything.
"""

import os
import signal
from typing import Any

from envfarm.sandboxes.local_syscalls import CLONE_NEWNS, CLONE_NEWUSER, MS_NODEV, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, Kernel

STAGE = "/tmp"  # noqa: S108 - hidden by our own mount in our own namespace
"""The stage's directory. It exists on every machine, and bubblewrap treats it like any other."""
TREES = f"{STAGE}/t"
OVERLAYS = f"{STAGE}/o"
SPACE = f"{STAGE}/s"
IN_BOX_ID = 1000
"""The agent's uid and gid, as seen in the box."""


def build(kernel: Kernel, request: dict[str, Any]) -> None:
    """Enter new namespaces, and mount everything that the request's argv refers to."""
    stage, uid = request["stage"], request["uid"]
    if uid is None:
        outer = (os.getuid(), os.getgid())
        kernel.unshare(CLONE_NEWUSER | CLONE_NEWNS)
        _map_self(*outer)
    else:
        kernel.unshare(CLONE_NEWNS)
    kernel.mount("none", "/", "", MS_REC | MS_PRIVATE)
    owners = _owners_of(uid, kernel) if uid is not None and any(t["owned"] for t in stage["trees"]) else None
    trees, unmapped = _open_trees(kernel, stage["trees"], owners)
    space = kernel.clone_tree(stage["disk"]) if stage["disk"] else None
    size = f"size={stage['memory_bytes']},nr_inodes={stage['inodes']}"
    kernel.mount("envfarm", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=0755,{size}")
    for path in (TREES, OVERLAYS, SPACE):
        os.mkdir(path, 0o755)  # noqa: PTH102 - see above
    for number, (tree, is_dir) in enumerate(trees):
        _attach(kernel, tree, f"{TREES}/{number}", is_dir=is_dir)
        if number in unmapped and stage["trees"][number]["writable"]:
            _give(f"{TREES}/{number}", uid)
    if space is not None:
        _attach(kernel, space, SPACE, is_dir=True)
    _make_directories(stage["directories"], uid)
    for number, overlay in enumerate(stage["overlays"]):
        foreign = uid is not None and any(_tree_of(lower) in unmapped for lower in overlay["lower"])
        _mount_overlay(kernel, overlay, f"{OVERLAYS}/{number}", user=uid is None, metacopy=foreign)
        if foreign and overlay["upper"]:
            _give(f"{OVERLAYS}/{number}", uid)


def start_time(pid: int) -> int:
    """A process's start time, in clock ticks since boot: pid and start time identify a process for good. 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - before pathlib is loaded
            return int(file.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


def _map_self(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{IN_BOX_ID} {uid} 1"), ("gid_map", f"{IN_BOX_ID} {gid} 1")):
        _write(f"/proc/self/{name}", text)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _owners_of(uid: int, kernel: Kernel) -> int:
    """A user namespace that maps root's files to the box's user, for idmapped mounts. The process that holds it ends at once."""
    ready_r, ready_w = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        kernel.unshare(CLONE_NEWUSER)
        os.write(ready_w, b".")
        signal.pause()
        os._exit(0)
    os.close(ready_w)
    try:
        if not os.read(ready_r, 1):
            raise OSError("a user namespace cannot be created")
        _write(f"/proc/{pid}/uid_map", f"0 {uid} 1")
        _write(f"/proc/{pid}/gid_map", f"0 {uid} 1")
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready_r)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _open_trees(kernel: Kernel, wanted: list[dict[str, Any]], owners: int | None) -> tuple[list[tuple[int, bool]], set[int]]:
    """Detached mounts of the sources, and the numbers of those whose owners could not be mapped.

    Mapping fails on some file systems (an overlay, as in a container) and before Linux 5.19.
    """
    trees, unmapped = [], set()
    for number, tree in enumerate(wanted):
        fd = kernel.clone_tree(tree["source"])
        if owners is not None and tree["owned"]:
            try:
                kernel.map_owners(fd, owners)
            except OSError:
                unmapped.add(number)
        trees.append((fd, os.path.isdir(tree["source"])))  # noqa: PTH112 - before pathlib is loaded
    return trees, unmapped


def _attach(kernel: Kernel, tree: int, target: str, *, is_dir: bool) -> None:
    if target != SPACE:
        if is_dir:
            os.mkdir(target, 0o755)  # noqa: PTH102 - see above
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    kernel.attach_tree(tree, target)
    os.close(tree)


def _make_directories(wanted: list[list[Any]], uid: int | None) -> None:
    for path, mode in wanted:
        os.mkdir(path, mode)  # noqa: PTH102 - see above
        os.chmod(path, mode)  # noqa: PTH101 - before pathlib is loaded
        if uid is not None:
            os.chown(path, uid, uid)


def _mount_overlay(kernel: Kernel, overlay: dict[str, Any], target: str, *, user: bool, metacopy: bool) -> None:
    os.mkdir(target, 0o755)  # noqa: PTH102 - see above
    options = ["lowerdir=" + ":".join(overlay["lower"])]
    flags = MS_NOSUID | MS_NODEV
    if overlay["upper"]:
        options += [f"upperdir={overlay['upper']}", f"workdir={overlay['work']}", "volatile"]
        if metacopy:
            options.append("metacopy=on,redirect_dir=on")
    else:
        flags |= MS_RDONLY
    if user:
        options.append("userxattr")
    kernel.mount("overlay", target, "overlay", flags, ",".join(options))


def _tree_of(path: str) -> int:
    number = path.removeprefix(TREES + "/").partition("/")[0]
    return int(number) if path.startswith(TREES + "/") else -1


def _give(root: str, uid: int) -> None:
    """Give a tree to the box's user, if its owners cannot be mapped. In an overlay only metadata is copied up, not contents."""
    os.lchown(root, uid, uid)
    for directory, directories, files in os.walk(root):
        for name in (*directories, *files):
            os.lchown(f"{directory}/{name}", uid, uid)
