"""The filter, run by a small interpreter of classic BPF."""

import errno
import struct

import pytest

from envfarm.sandboxes import local_seccomp
from envfarm.sandboxes.local_seccomp import AARCH64, ALLOW, DENY, KILL, MACHINES, NO_FAMILY, UNKNOWN, X86_64


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
