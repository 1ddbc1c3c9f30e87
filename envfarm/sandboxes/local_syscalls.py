"""The few system calls that Python lacks, through the C library. Standard library only.

Each function raises an `OSError` that names the call.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REC = 0x4000
MS_PRIVATE = 0x40000

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_IDMAP = 0x00100000

# The same numbers on every architecture: since Linux 5.1 new calls share one table.
NR_OPEN_TREE = 428
NR_MOVE_MOUNT = 429
NR_MOUNT_SETATTR = 442

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


class Kernel:
    """The system calls. One object per process that uses them, since loading the C library is expensive."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def unshare(self, flags: int) -> None:
        """Enter new namespaces."""
        self._check(self._libc.unshare(flags), "unshare")

    def mount(self, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
        """Mount a file system, or change a mount."""
        done = self._libc.mount(
            os.fsencode(source), os.fsencode(target), os.fsencode(kind), ctypes.c_ulong(flags), os.fsencode(options) if options else None
        )
        self._check(done, f"mount {kind or 'flags'} on {target} ({options})")

    def clone_tree(self, path: str) -> int:
        """A detached copy of the mounts at and below `path`, as a descriptor to attach."""
        flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
        return self._check(self._libc.syscall(NR_OPEN_TREE, AT_FDCWD, os.fsencode(path), ctypes.c_uint(flags)), f"open_tree {path}")

    def attach_tree(self, tree: int, target: str) -> None:
        """Attach a detached mount at `target`, which must exist."""
        done = self._libc.syscall(NR_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
        self._check(done, f"move_mount to {target}")

    def map_owners(self, tree: int, userns: int) -> None:
        """Make a detached mount show owners as mapped by the user namespace (an idmapped mount)."""
        attr = _MountAttr(attr_set=MOUNT_ATTR_IDMAP, userns_fd=userns)
        done = self._libc.syscall(NR_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, ctypes.byref(attr), ctypes.sizeof(attr))
        self._check(done, "mount_setattr")

    def die_with_parent(self) -> None:
        """Have the kernel SIGKILL this process when its parent ends. A change of user clears this setting."""
        self._check(self._libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0), "prctl")

    def adopt_orphans(self) -> None:
        """Become the parent of descendants whose own parents end, instead of init."""
        self._check(self._libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")

    def _check(self, result: int, what: str) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"{what}: {os.strerror(code)}")
        return result
