"""The filter of system calls of local and Docker boxes, as classic BPF. Pure; called by their providers.

It denies with EPERM what no build or test needs and what reaches far into the kernel. It is the second wall: namespaces and dropped
privileges are the first. Of sockets it is the first wall, too: some families (AF_VSOCK) know of no network namespace, so only those that
do may be opened. Tracing stays allowed inside the box, for debuggers. Unknown architectures and 32-bit calls are refused whole, and with
them socketcall(2).
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
KILL = 0x80000000

NUMBER_OFFSET = 0
ARCHITECTURE_OFFSET = 4
FIRST_ARGUMENT_OFFSET = 16
SECOND_ARGUMENT_OFFSET = 24

CLONE_NEW_NAMESPACES = 0x7E020000
"""Every namespace flag of clone(2) but CLONE_NEWTIME, which clone cannot carry."""
UNSHARE_NAMESPACES = CLONE_NEW_NAMESPACES | 0x80
X32_BIT = 0x40000000
TIOCSTI = 0x5412
TIOCLINUX = 0x541C
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
"""Of sockets: a network namespace holds them in. Others reach the machine (AF_VSOCK) or seldom tried parts of the kernel (AF_ALG)."""
PAIR_FAMILIES = (socket.AF_UNIX,)


class Calls(NamedTuple):
    """One architecture's numbers."""

    audit: int
    clone: int
    unshare: int
    ioctl: int
    socket: int
    socketpair: int
    denied: tuple[int, ...]
    x32: bool


# Since Linux 5.1 new calls have one number everywhere: clone3, the mount API, io_uring, pidfd_getfd …
CLONE3 = 435
COMMON_DENIED = (
    *(425, 426, 427),  # io_uring_setup, io_uring_enter, io_uring_register
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
    *(438, 443),  # pidfd_getfd, quotactl_fd
    *(467, 457, 458),  # open_tree_attr, statmount, listmount
)

X86_64 = Calls(
    audit=0xC000003E,
    clone=56,
    unshare=272,
    ioctl=16,
    socket=41,
    socketpair=53,
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
    """The filter for bubblewrap's --seccomp, as `struct sock_filter` rows. Raises `ValueError` for a machine without a table."""
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
    # clone3 hides its flags behind a pointer; told that it is missing, C libraries fall back to clone.
    rows += [_Instruction(JUMP_EQUAL, CLONE3, 0, 1), _Instruction(RETURN, UNKNOWN)]
    for number in sorted({*calls.denied, *COMMON_DENIED}):
        rows += [_Instruction(JUMP_EQUAL, number, 0, 1), _Instruction(RETURN, DENY)]
    rows += _deny_flags(calls.clone, CLONE_NEW_NAMESPACES)
    rows += _deny_flags(calls.unshare, UNSHARE_NAMESPACES)
    rows += _deny_terminal_injection(calls.ioctl)
    rows += _allow_families(calls.socket, FAMILIES)
    rows += _allow_families(calls.socketpair, PAIR_FAMILIES)
    rows.append(_Instruction(RETURN, ALLOW))
    return b"".join(struct.pack("=HBBI", r.code, r.if_true, r.if_false, r.operand) for r in rows)


def _deny_flags(number: int, flags: int) -> list[_Instruction]:
    """Deny the call when its first argument has any of the flags."""
    return [
        _Instruction(JUMP_EQUAL, number, 0, 4),
        _Instruction(LOAD_WORD, FIRST_ARGUMENT_OFFSET),
        _Instruction(JUMP_ANY_BIT, flags, 0, 1),
        _Instruction(RETURN, DENY),
        _Instruction(RETURN, ALLOW),
    ]


def _deny_terminal_injection(number: int) -> list[_Instruction]:
    """The kernel looks at the lower half of ioctl's request alone, and so does this."""
    return [
        _Instruction(JUMP_EQUAL, number, 0, 4),
        _Instruction(LOAD_WORD, SECOND_ARGUMENT_OFFSET),
        _Instruction(JUMP_EQUAL, TIOCSTI, 1, 0),
        _Instruction(JUMP_EQUAL, TIOCLINUX, 0, 1),
        _Instruction(RETURN, DENY),
    ]


def _allow_families(number: int, families: tuple[int, ...]) -> list[_Instruction]:
    """A family is an int: the kernel looks at the lower half of the argument alone, and so does this."""
    rows = [_Instruction(LOAD_WORD, FIRST_ARGUMENT_OFFSET)]
    rows += [_Instruction(JUMP_EQUAL, family, len(families) - n, 0) for n, family in enumerate(families)]
    rows += [_Instruction(RETURN, NO_FAMILY), _Instruction(RETURN, ALLOW)]
    return [_Instruction(JUMP_EQUAL, number, 0, len(rows)), *rows]
