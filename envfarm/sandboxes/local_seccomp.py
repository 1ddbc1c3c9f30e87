"""The system call filter of local and Docker boxes, as classic BPF. Pure.

It denies with EPERM what no build or test needs and what reaches deep into the kernel. Namespaces and dropped privileges are the first
line of defence, the filter is the second, with these exceptions. Sockets: some families (AF_VSOCK) ignore network namespaces, so only
families that respect them may be opened. Limits: if boxd has the agent's uid, any process of that user could kill it by setting its
RLIMIT_CPU or RLIMIT_AS. Page cache: calls that tell which pages of a shared file are in memory, or evict them, are refused or ignored.
Tracing stays allowed in the box, for debuggers. Other architectures and 32-bit calls, and with them socketcall(2), are refused entirely.
"""

import errno
import socket
import struct
from typing import NamedTuple

LOAD_WORD = 0x20
JUMP_EQUAL = 0x15
JUMP_AT_LEAST = 0x35
JUMP_ANY_BIT = 0x45
RETURN = 0x06

ALLOW = 0x7FFF0000
DENY = 0x00050000 | errno.EPERM
UNKNOWN = 0x00050000 | errno.ENOSYS
NO_FAMILY = 0x00050000 | errno.EAFNOSUPPORT
NO_SUCH_READ = 0x00050000 | errno.EOPNOTSUPP
IGNORE = 0x00050000
"""The call succeeds without effect, as is allowed for a hint."""
KILL = 0x80000000

NUMBER_OFFSET = 0
ARCHITECTURE_OFFSET = 4
FIRST_ARGUMENT_OFFSET = 16
"""The lower half; the upper half follows. If the kernel takes an int it uses only the lower half, and so does the filter."""
ARGUMENT_BYTES = 8
SECOND_ARGUMENT_OFFSET, THIRD_ARGUMENT_OFFSET = (FIRST_ARGUMENT_OFFSET + ARGUMENT_BYTES * n for n in (1, 2))
SIXTH_ARGUMENT_OFFSET = FIRST_ARGUMENT_OFFSET + ARGUMENT_BYTES * 5

CLONE_NEW_NAMESPACES = 0x7E020000
"""Every namespace flag of clone(2) except CLONE_NEWTIME, which clone cannot take."""
UNSHARE_NAMESPACES = CLONE_NEW_NAMESPACES | 0x80
X32_BIT = 0x40000000
TIOCSTI = 0x5412
TIOCLINUX = 0x541C
BOXD = 1
"""The pid of boxd in every box."""
RLIMIT_NPROC = 6
PRIO_USER = 2
IOPRIO_WHO_USER = 3
MADV_COLD = 20
MADV_PAGEOUT = 21
RWF_NOWAIT = 0x08
RWF_DONTCACHE = 0x80
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""Socket families that network namespaces confine. Others reach the machine (AF_VSOCK) or rarely tested parts of the kernel (AF_ALG)."""
PAIR_FAMILIES = (socket.AF_UNIX,)


class Calls(NamedTuple):
    """The system call numbers of one architecture."""

    audit: int
    clone: int
    unshare: int
    ioctl: int
    socket: int
    socketpair: int
    prlimit: int
    setpriority: int
    ioprio_set: int
    scheduling: tuple[int, ...]
    """Calls whose first argument is a pid, and which change its priority or its CPUs."""
    fadvise: int
    madvise: int
    vector_calls: tuple[int, ...]
    """preadv2 and pwritev2."""
    unknown: tuple[int, ...]
    """Answered with ENOSYS: programs then work without them."""
    denied: tuple[int, ...]
    x32: bool


# Since Linux 5.1 new calls have one number on all architectures: clone3, the mount API, io_uring, pidfd_getfd …
CLONE3 = 435
COMMON_DENIED = (
    *(425, 426, 427),  # io_uring_setup, io_uring_enter, io_uring_register
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
    *(438, 443),  # pidfd_getfd, quotactl_fd
    *(467, 457, 458),  # open_tree_attr, statmount, listmount
)
COMMON_UNKNOWN = (CLONE3, 440, 451)  # process_madvise, cachestat

X86_64 = Calls(
    audit=0xC000003E,
    clone=56,
    unshare=272,
    ioctl=16,
    socket=41,
    socketpair=53,
    prlimit=302,
    setpriority=141,
    ioprio_set=251,
    scheduling=(144, 142, 314, 203),  # sched_setscheduler, sched_setparam, sched_setattr, sched_setaffinity
    fadvise=221,
    madvise=28,
    vector_calls=(327, 328),
    unknown=(27, 206),  # mincore, io_setup (its requests could use RWF_NOWAIT unseen by the filter)
    denied=(
        *(165, 166, 155, 161),  # mount, umount2, pivot_root, chroot
        *(308, 321, 298, 323),  # setns, bpf, perf_event_open, userfaultfd
        *(248, 249, 250),  # add_key, request_key, keyctl
        *(246, 320, 175, 176, 313, 174),  # kexec_load, kexec_file_load, init_module, delete_module, finit_module, create_module
        *(304, 303, 179),  # open_by_handle_at, name_to_handle_at, quotactl
        *(167, 168, 169),  # swapon, swapoff, reboot
        *(164, 227, 305, 159),  # settimeofday, clock_settime, clock_adjtime, adjtimex
        *(163, 103, 172, 173, 153, 180, 156),  # acct, syslog, iopl, ioperm, vhangup, nfsservctl, _sysctl
        *(170, 171),  # sethostname, setdomainname
    ),
    x32=True,
)
AARCH64 = Calls(
    audit=0xC00000B7,
    clone=220,
    unshare=97,
    ioctl=29,
    socket=198,
    socketpair=199,
    prlimit=261,
    setpriority=140,
    ioprio_set=30,
    scheduling=(119, 118, 274, 122),  # sched_setscheduler, sched_setparam, sched_setattr, sched_setaffinity
    fadvise=223,
    madvise=233,
    vector_calls=(286, 287),
    unknown=(232, 0),  # mincore, io_setup
    denied=(
        *(40, 39, 41, 51),  # mount, umount2, pivot_root, chroot
        *(268, 280, 241, 282),  # setns, bpf, perf_event_open, userfaultfd
        *(217, 218, 219),  # add_key, request_key, keyctl
        *(104, 294, 105, 106, 273),  # kexec_load, kexec_file_load, init_module, delete_module, finit_module
        *(265, 264, 60),  # open_by_handle_at, name_to_handle_at, quotactl
        *(224, 225, 142),  # swapon, swapoff, reboot
        *(170, 112, 266, 171),  # settimeofday, clock_settime, clock_adjtime, adjtimex
        *(89, 116, 58, 42),  # acct, syslog, vhangup, nfsservctl
        *(161, 162),  # sethostname, setdomainname
    ),
    x32=False,
)
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}
"""By `platform.machine()`."""


class _Instruction(NamedTuple):
    code: int
    operand: int
    if_true: int = 0
    if_false: int = 0


def program(machine: str) -> bytes:
    """The filter for bubblewrap's --seccomp, as `struct sock_filter` rows. Raises `ValueError` for an unsupported machine."""
    if machine not in MACHINES:
        raise ValueError(f"no table of system calls for {machine}")
    calls = MACHINES[machine]
    rows = [
        _Instruction(LOAD_WORD, ARCHITECTURE_OFFSET),
        _Instruction(JUMP_EQUAL, calls.audit, 1, 0),
        _Instruction(RETURN, KILL),
        _Instruction(LOAD_WORD, NUMBER_OFFSET),
    ]
    if calls.x32:
        rows += [_Instruction(JUMP_AT_LEAST, X32_BIT, 0, 1), _Instruction(RETURN, UNKNOWN)]
    # clone3 passes its flags by pointer, which a filter cannot read; on ENOSYS C libraries fall back to clone.
    for number in sorted({*calls.unknown, *COMMON_UNKNOWN}):
        rows += [_Instruction(JUMP_EQUAL, number, 0, 1), _Instruction(RETURN, UNKNOWN)]
    rows += [_Instruction(JUMP_EQUAL, calls.fadvise, 0, 1), _Instruction(RETURN, IGNORE)]
    for number in sorted({*calls.denied, *COMMON_DENIED}):
        rows += [_Instruction(JUMP_EQUAL, number, 0, 1), _Instruction(RETURN, DENY)]
    rows += _deny_flags(calls.clone, CLONE_NEW_NAMESPACES)
    rows += _deny_flags(calls.unshare, UNSHARE_NAMESPACES)
    rows += _answer(calls.ioctl, SECOND_ARGUMENT_OFFSET, (TIOCSTI, TIOCLINUX), DENY)
    rows += _allow_families(calls.socket, FAMILIES)
    rows += _allow_families(calls.socketpair, PAIR_FAMILIES)
    rows += _deny_limits_of_others(calls.prlimit)
    for number in calls.scheduling:
        rows += _answer(number, FIRST_ARGUMENT_OFFSET, (BOXD,), DENY)
    for number, user in ((calls.setpriority, PRIO_USER), (calls.ioprio_set, IOPRIO_WHO_USER)):
        rows += _deny_urgency_of_boxd(number, user)
    rows += _answer(calls.madvise, THIRD_ARGUMENT_OFFSET, (MADV_COLD, MADV_PAGEOUT), IGNORE)
    for number in calls.vector_calls:
        rows += _deny_looking_into_memory(number)
    rows.append(_Instruction(RETURN, ALLOW))
    return b"".join(struct.pack("=HBBI", r.code, r.if_true, r.if_false, r.operand) for r in rows)


def _deny_flags(number: int, flags: int) -> list[_Instruction]:
    """Deny the call if its first argument has any of the flags."""
    return [
        _Instruction(JUMP_EQUAL, number, 0, 4),
        _Instruction(LOAD_WORD, FIRST_ARGUMENT_OFFSET),
        _Instruction(JUMP_ANY_BIT, flags, 0, 1),
        _Instruction(RETURN, DENY),
        _Instruction(RETURN, ALLOW),
    ]


def _answer(number: int, argument: int, values: tuple[int, ...], answer: int) -> list[_Instruction]:
    """Give this answer if the lower half of an argument is one of the values."""
    rows = [_Instruction(LOAD_WORD, argument)]
    rows += [_Instruction(JUMP_EQUAL, value, len(values) - n, 0) for n, value in enumerate(values)]
    rows += [_Instruction(RETURN, ALLOW), _Instruction(RETURN, answer)]
    return [_Instruction(JUMP_EQUAL, number, 0, len(rows)), *rows]


def _deny_limits_of_others(number: int) -> list[_Instruction]:
    """Deny setting limits of another process. A pid may be that of any thread of boxd, so only 0 (the caller) is known not to be boxd.

    Reading limits stays allowed. RLIMIT_NPROC too, except for pid 1: boxd sets it for what it starts, and set for boxd it has only the
    effect of a fork bomb.
    """
    rows = [
        _Instruction(LOAD_WORD, FIRST_ARGUMENT_OFFSET),
        _Instruction(JUMP_EQUAL, 0, 9, 0),
        _Instruction(LOAD_WORD, THIRD_ARGUMENT_OFFSET),
        _Instruction(JUMP_EQUAL, 0, 0, 2),
        _Instruction(LOAD_WORD, THIRD_ARGUMENT_OFFSET + 4),
        _Instruction(JUMP_EQUAL, 0, 5, 0),
        _Instruction(LOAD_WORD, FIRST_ARGUMENT_OFFSET),
        _Instruction(JUMP_EQUAL, BOXD, 2, 0),
        _Instruction(LOAD_WORD, SECOND_ARGUMENT_OFFSET),
        _Instruction(JUMP_EQUAL, RLIMIT_NPROC, 1, 0),
        _Instruction(RETURN, DENY),
        _Instruction(RETURN, ALLOW),
    ]
    return [_Instruction(JUMP_EQUAL, number, 0, len(rows)), *rows]


def _deny_urgency_of_boxd(number: int, user: int) -> list[_Instruction]:
    """Deny changing the priority of boxd, of its process group, and of all processes of its user."""
    return [
        _Instruction(JUMP_EQUAL, number, 0, 6),
        _Instruction(LOAD_WORD, FIRST_ARGUMENT_OFFSET),
        _Instruction(JUMP_EQUAL, user, 2, 0),
        _Instruction(LOAD_WORD, SECOND_ARGUMENT_OFFSET),
        _Instruction(JUMP_EQUAL, BOXD, 0, 1),
        _Instruction(RETURN, DENY),
        _Instruction(RETURN, ALLOW),
    ]


def _deny_looking_into_memory(number: int) -> list[_Instruction]:
    """Deny reads that fail if a page is not in memory, or that evict it afterwards."""
    return [
        _Instruction(JUMP_EQUAL, number, 0, 4),
        _Instruction(LOAD_WORD, SIXTH_ARGUMENT_OFFSET),
        _Instruction(JUMP_ANY_BIT, RWF_NOWAIT | RWF_DONTCACHE, 0, 1),
        _Instruction(RETURN, NO_SUCH_READ),
        _Instruction(RETURN, ALLOW),
    ]


def _allow_families(number: int, families: tuple[int, ...]) -> list[_Instruction]:
    rows = [_Instruction(LOAD_WORD, FIRST_ARGUMENT_OFFSET)]
    rows += [_Instruction(JUMP_EQUAL, family, len(families) - n, 0) for n, family in enumerate(families)]
    rows += [_Instruction(RETURN, NO_FAMILY), _Instruction(RETURN, ALLOW)]
    return [_Instruction(JUMP_EQUAL, number, 0, len(rows)), *rows]
