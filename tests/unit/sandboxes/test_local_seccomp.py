"""The filter, run by a small interpreter of classic BPF."""

import errno
import struct

import pytest

from envfarm.sandboxes import local_seccomp
from envfarm.sandboxes.local_seccomp import AARCH64, ALLOW, DENY, IGNORE, KILL, MACHINES, NO_FAMILY, NO_SUCH_READ, UNKNOWN, X86_64


def verdict(machine: str, number: int, *arguments: int, audit: int | None = None) -> int:
    rows = list(struct.iter_unpack("=HBBI", local_seccomp.program(machine)))
    data = struct.pack("=IIQ6Q", number, audit or MACHINES[machine].audit, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, operand = rows[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, operand)[0]
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x45:
                at += if_true if accumulator & operand else if_false
            case 0x06:
                return int(operand)
            case _:
                raise AssertionError(f"an instruction that the filter has no use for: {code:#x}")


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        (
            "x86_64",
            {
                "mount": 165,
                "setns": 308,
                "bpf": 321,
                "keyctl": 250,
                "io_uring_setup": 425,
                "kexec_load": 246,
                "userfaultfd": 323,
                "reboot": 169,
            },
        ),
        (
            "aarch64",
            {
                "mount": 40,
                "setns": 268,
                "bpf": 280,
                "keyctl": 219,
                "io_uring_setup": 425,
                "kexec_load": 104,
                "userfaultfd": 282,
                "reboot": 142,
            },
        ),
    ],
)
def test_what_reaches_far_into_the_kernel_is_denied(machine: str, names: dict[str, int]) -> None:
    assert {name: verdict(machine, number) for name, number in names.items()} == dict.fromkeys(names, DENY)


@pytest.mark.parametrize("number", [0, 1, 2, 9, 57, 59, 61, 101, 257, 318, 436, 439])
def test_what_programs_need_is_allowed(number: int) -> None:
    assert verdict("x86_64", number) == ALLOW


@pytest.mark.parametrize(("machine", "calls"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_namespaces_are_denied_by_their_flags(machine: str, calls: local_seccomp.Calls) -> None:
    threads, fork, user = 0x3D0F00, 17, 0x10000000
    assert verdict(machine, calls.clone, threads) == verdict(machine, calls.clone, fork) == ALLOW
    assert verdict(machine, calls.clone, user | fork) == verdict(machine, calls.unshare, user) == DENY
    assert verdict(machine, calls.unshare, 0x400) == ALLOW, "unsharing descriptors is harmless"
    assert verdict(machine, local_seccomp.CLONE3, user) == UNKNOWN
    assert UNKNOWN & 0xFFFF == errno.ENOSYS


both = pytest.mark.parametrize(("machine", "calls"), [("x86_64", X86_64), ("aarch64", AARCH64)])
HIGH = 1 << 32
LIMITS = {"cpu": 0, "data": 2, "files": 7, "memory": 9}


@both
def test_limits_are_set_for_oneself_alone(machine: str, calls: local_seccomp.Calls) -> None:
    here, processes = 0x7FFF_0000_0000, 6
    for limit in LIMITS.values():
        assert verdict(machine, calls.prlimit, 0, limit, here) == ALLOW
        for pid in (1, 2, 9, 4711, HIGH | 1, HIGH | 9):
            assert verdict(machine, calls.prlimit, pid, limit, here) == verdict(machine, calls.prlimit, pid, limit, 8) == DENY
            assert verdict(machine, calls.prlimit, pid, limit, 0, here) == ALLOW, "asking for limits sets none"
    assert verdict(machine, calls.prlimit, 9, processes, here) == ALLOW, "boxd sets it for what it starts"
    assert verdict(machine, calls.prlimit, 1, processes, here) == verdict(machine, calls.prlimit, HIGH | 1, processes, here) == DENY


@both
def test_boxds_urgency_is_its_own(machine: str, calls: local_seccomp.Calls) -> None:
    for number in calls.scheduling:
        assert verdict(machine, number, 0) == verdict(machine, number, 4711) == ALLOW
        assert verdict(machine, number, 1) == verdict(machine, number, HIGH | 1) == DENY
    for number, process, group, user in ((calls.setpriority, 0, 1, 2), (calls.ioprio_set, 1, 2, 3)):
        for which in (process, group):
            assert verdict(machine, number, which, 0) == verdict(machine, number, which, 4711) == ALLOW
            assert verdict(machine, number, which, 1) == verdict(machine, number, which, HIGH | 1) == DENY
        assert verdict(machine, number, user, 0) == verdict(machine, number, HIGH | user, 1000) == DENY


@both
def test_what_is_in_memory_is_neither_told_nor_put_out(machine: str, calls: local_seccomp.Calls) -> None:
    assert verdict(machine, calls.fadvise, 3, 0, 0, 4) == IGNORE
    cold, out, unneeded = 20, 21, 4
    assert verdict(machine, calls.madvise, 0, 4096, cold) == verdict(machine, calls.madvise, 0, 4096, HIGH | out) == IGNORE
    assert verdict(machine, calls.madvise, 0, 4096, unneeded) == ALLOW, "allocators give memory back so"
    for number in calls.vector_calls:
        high_priority, at_once, uncached = 1, 8, 0x80
        assert verdict(machine, number, 3, 0, 1, 0, 0, high_priority) == ALLOW
        assert verdict(machine, number, 3, 0, 1, 0, 0, at_once | high_priority) == NO_SUCH_READ
        assert verdict(machine, number, 3, 0, 1, 0, 0, uncached) == NO_SUCH_READ
    mincore, process_madvise, cachestat = {"x86_64": 27, "aarch64": 232}[machine], 440, 451
    assert [verdict(machine, number) for number in (mincore, process_madvise, cachestat)] == [UNKNOWN] * 3


def test_terminals_cannot_be_typed_into() -> None:
    assert verdict("x86_64", 16, 0, 0x5412) == verdict("x86_64", 16, 0, (1 << 32) | 0x5412) == DENY
    assert verdict("x86_64", 16, 0, 0x541C) == DENY
    assert verdict("x86_64", 16, 0, 0x5401) == ALLOW


@pytest.mark.parametrize(("machine", "calls"), [("x86_64", X86_64), ("aarch64", AARCH64)])
def test_sockets_are_of_families_that_a_network_namespace_holds_in(machine: str, calls: local_seccomp.Calls) -> None:
    unix, internet, internet6, netlink, packet, ciphers, vsock = 1, 2, 10, 16, 17, 38, 40
    for family in range(64):
        allowed = family in {unix, internet, internet6, netlink}
        assert verdict(machine, calls.socket, family) == (ALLOW if allowed else NO_FAMILY), family
        assert verdict(machine, calls.socketpair, family) == (ALLOW if family == unix else NO_FAMILY), family
    for family in (packet, ciphers, vsock):
        assert verdict(machine, calls.socket, (1 << 32) | family) == NO_FAMILY
    assert verdict(machine, calls.socket, (1 << 32) | internet) == ALLOW, "the kernel reads an int"
    assert NO_FAMILY & 0xFFFF == errno.EAFNOSUPPORT


def test_other_architectures_and_numberings_are_refused() -> None:
    assert verdict("x86_64", 1, audit=0x40000003) == KILL
    assert verdict("x86_64", 0x40000000 | 165) == UNKNOWN
    with pytest.raises(ValueError, match="riscv64"):
        local_seccomp.program("riscv64")
