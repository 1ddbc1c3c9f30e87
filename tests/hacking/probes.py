"""What hostile code in a local box tries. Each probe prints REACHED when it gets through, and each names the walls that stand in its way.

A probe is a Python program for the box's own interpreter, with `call(number, *arguments)` for raw system calls (it returns -errno) and
`reached(held)`; `boxd` is boxd's pid. `{…}` stands for what the test has put up on the host: `{secret}`, `{port}`, `{pid}` and so on.
"""

# ruff: noqa: E501 - a probe is one line, however long

import ctypes
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from envfarm.sandboxes.local_walls import ALL_UP, Walls

PRELUDE = """
import ctypes, os, socket, sys, errno, struct, platform
libc = ctypes.CDLL(None, use_errno=True)
boxd = os.getppid()
def call(x86_64, aarch64, *arguments):
    number = x86_64 if platform.machine() == "x86_64" else aarch64
    result = libc.syscall(number, *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    return result if result >= 0 else -ctypes.get_errno()
def reached(held):
    print("REACHED" if held else "held")
def limit(pid, resource, value):
    return call(302, 261, pid, resource, (ctypes.c_uint64 * 2)(value, value), None)
def pages(path):
    # Whether each page of a file is in memory, by reads that do not wait.
    fd = os.open(path, os.O_RDONLY)
    def resident(at):
        try:
            return os.preadv(fd, [bytearray(1)], at, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False
    return [resident(at) for at in range(0, os.fstat(fd).st_size, 4096)]
def command_of(pid):
    try:
        return open(f"/proc/{pid}/cmdline", "rb").read()
    except OSError:
        return b""  # it ended while it was looked for
"""


def has_family(family: int) -> bool:
    """Whether the kernel has sockets of a family."""
    try:
        socket.socket(family, socket.SOCK_SEQPACKET if family == socket.AF_ALG else socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def reads_without_waiting() -> bool:
    """Whether the file system of the system's Python has reads that do not wait: a container's overlay has none."""
    with Path("/usr/bin/python3").open("rb") as file:
        try:
            os.preadv(file.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def reads_the_kernels_log() -> bool:
    """Whether the size of the kernel's log is told."""
    return bool(ctypes.CDLL(None).klogctl(10, None, 0) >= 0)


@dataclass(frozen=True)
class Probe:
    """An attack, and the box in which it succeeds."""

    name: str
    program: str
    down: Walls
    """The control: all walls but these."""
    root_only: bool = False
    """Whether even the control needs a farm that is root, since the kernel asks for privilege on the host."""
    can_be_done: Callable[[], bool] = lambda: True
    """Whether this process, which no wall holds, can do it: not every kernel, file system or container lets it."""


UNSEEN = Walls(hidden_files=False)
NETWORK = Walls(own_network=False)
PROCESSES = Walls(own_processes=False)
PROCESSES_AS_OWNER = Walls(own_processes=False, no_privilege=False)
CALLS = Walls(seccomp=False)
PRIVILEGE = Walls(no_privilege=False)
CALLS_WITH_PRIVILEGE = Walls(seccomp=False, no_privilege=False)
LIMITS = Walls(limits=False)

FILES = (
    Probe("read a file of the host", "reached(open('{secret}').read() == 'secret')", UNSEEN),
    Probe("find the host's passwords", "reached(os.path.exists('/etc/shadow'))", UNSEEN),
    Probe("list the homes of the host", "reached(os.path.exists('{home}'))", UNSEEN),
    Probe("look into the kernel's /sys", "reached(os.path.exists('/sys/kernel'))", UNSEEN),
    Probe(
        "connect to a unix socket of the host",
        "s = socket.socket(socket.AF_UNIX); s.connect('{socket}'); reached(s.recv(6) == b'secret')",
        UNSEEN,
    ),
    Probe("plant a directory in the root", "os.mkdir('/planted'); reached(True)", Walls(read_only_system=False)),
    Probe("find devices of the host", "reached(bool(set({devices}) & set(os.listdir('/dev'))))", Walls(own_devices=False)),
    Probe(
        "write beside the devices",
        "open('/dev/shm/../planted-{nonce}', 'w'); reached(True)",
        Walls(own_devices=False, no_privilege=False),
        root_only=True,
    ),
)

PROCESS = (
    Probe(
        "see a process of the host",
        "reached(any(command_of(p) == b'sh\\0-c\\0sleep 1000; : {mark}\\0' for p in os.listdir('/proc') if p.isdigit()))",
        PROCESSES,
    ),
    Probe(
        "signal a process of the host",
        "os.kill({pid}, 0); reached(b'{mark}' in open('/proc/{pid}/cmdline', 'rb').read())",
        PROCESSES_AS_OWNER,
    ),
    Probe(
        "read the environment of a process of the host",
        "reached(b'{mark}' in open('/proc/{pid}/environ', 'rb').read())",
        PROCESSES_AS_OWNER,
        root_only=True,
    ),
    Probe("leave through a process's root", "reached(os.path.exists('/proc/{pid}/root{secret}'))", PROCESSES_AS_OWNER, root_only=True),
    Probe("list the descriptors of a process of the host", "reached('0' in os.listdir('/proc/{pid}/fd'))", PROCESSES_AS_OWNER),
    Probe("open the memory of boxd", "os.close(os.open(f'/proc/{{boxd}}/mem', os.O_RDWR)); reached(True)", PRIVILEGE),
    Probe("read the environment of boxd", "reached(open(f'/proc/{{boxd}}/environ', 'rb').read() is not None)", PRIVILEGE),
    Probe("list the descriptors of boxd", "reached(bool(os.listdir(f'/proc/{{boxd}}/fd')))", PRIVILEGE),
    Probe("leave through the root of boxd", "reached(bool(os.listdir(f'/proc/{{boxd}}/root/')))", PRIVILEGE),
    Probe("trace boxd", "reached(libc.ptrace(0x4206, boxd, 0, 0) == 0)", PRIVILEGE),
    Probe(
        "trace a process of the host",
        "reached(b'{mark}' in open('/proc/{pid}/cmdline', 'rb').read() and libc.ptrace(0x4206, {pid}, 0, 0) == 0)",
        PROCESSES_AS_OWNER,
        root_only=True,
    ),
    Probe(
        "change a setting of the kernel",
        "os.close(os.open('/proc/sys/kernel/printk', os.O_WRONLY)); reached(True)",
        PROCESSES_AS_OWNER,
        root_only=True,
    ),
    Probe(
        "drop the host's caches",
        "os.close(os.open('/proc/sys/vm/drop_caches', os.O_WRONLY)); reached(True)",
        PROCESSES_AS_OWNER,
        root_only=True,
    ),
    Probe(
        "join a namespace of the host",
        "fd = os.open('/proc/{pid}/ns/net', os.O_RDONLY); reached(call(308, 268, fd, 0) == 0)",
        Walls(own_processes=False, no_privilege=False, seccomp=False),
        root_only=True,
    ),
)

BOXD = (
    *(
        Probe(f"limit boxd's {name}", f"reached(limit(boxd, {resource}, {value}) == 0)", CALLS)
        for name, resource, value in (("time", 0, 1 << 30), ("data", 2, 1 << 40), ("files", 7, 64), ("address space", 9, 1 << 40))
    ),
    Probe("limit boxd's processes", "reached(limit(boxd, 6, 64) == 0)", CALLS),
    Probe(
        "limit boxd by another of its threads",
        "reached(any(limit(int(t), 9, 1 << 40) == 0 for t in os.listdir(f'/proc/{{boxd}}/task') if int(t) != boxd))",
        CALLS,
    ),
    Probe("let boxd run when nothing else does", "reached(call(144, 119, boxd, 5, ctypes.byref(ctypes.c_int(0))) == 0)", CALLS),
    Probe("choose boxd's CPU", "reached(call(203, 122, boxd, 128, ctypes.create_string_buffer(b'\\xff' * 128, 128)) == 0)", CALLS),
    Probe("make boxd less urgent", "os.setpriority(os.PRIO_PROCESS, boxd, 19); reached(True)", CALLS),
    Probe("make boxd's group less urgent", "os.setpriority(os.PRIO_PGRP, boxd, 19); reached(True)", CALLS),
    Probe("make all of boxd's user less urgent", "os.setpriority(os.PRIO_USER, 0, 19); reached(True)", CALLS),
    Probe("make boxd's reads less urgent", "reached(call(251, 30, 1, boxd, 3 << 13) == 0)", CALLS),
)

NEIGHBOURS = (
    Probe(
        "see which pages of a shared file are in memory", "reached(any(pages(sys.executable)))", CALLS, can_be_done=reads_without_waiting
    ),
    Probe(
        "put a shared file out of memory",
        "fd = os.open(sys.executable, os.O_RDONLY); reached(call(221, 223, 1 << 20, 0, 0, 4) == -errno.EBADF)",
        CALLS,
    ),
    Probe(
        "put a shared mapping out of memory",
        "reached(call(28, 233, 4096, 4096, 21) in (-errno.ENOMEM, -errno.EINVAL))",
        CALLS,
    ),
    Probe("ask which pages are in memory", "reached(call(27, 232, 1, 4096, None) == -errno.EINVAL)", CALLS),
    Probe("read by a queue of the kernel", "reached(call(206, 0, 1, ctypes.create_string_buffer(8)) == 0)", CALLS),
)

REACH = (
    Probe(
        "connect to the host's loopback", "s = socket.create_connection(('127.0.0.1', {port}), 2); reached(s.recv(6) == b'secret')", NETWORK
    ),
    Probe(
        "connect to an abstract socket of the host",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\x00{abstract}'); reached(s.recv(6) == b'secret')",
        NETWORK,
    ),
    Probe("find boxd's socket", "reached('/boxd' in open('/proc/net/unix').read())", NETWORK),
    Probe(
        "have a network device",
        "reached(set(os.listdir('/proc/self/net/dev_snmp6') if os.path.exists('/proc/self/net/dev_snmp6') else ()) > {{'lo'}} or len(socket.if_nameindex()) > 1)",
        NETWORK,
    ),
    Probe("open a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); reached(True)", PRIVILEGE),
    Probe("open a packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); reached(True)", CALLS_WITH_PRIVILEGE),
    Probe(
        "listen where other boxes and the machine's guests reach it",
        "s = socket.socket(40, socket.SOCK_STREAM); s.bind((0xFFFFFFFF, 0xFFFFFFFF)); s.listen(1); reached(True)",
        CALLS,
        can_be_done=partial(has_family, socket.AF_VSOCK),
    ),
    Probe(
        "reach the kernel's ciphers",
        "socket.socket(38, socket.SOCK_SEQPACKET, 0); reached(True)",
        CALLS,
        can_be_done=partial(has_family, socket.AF_ALG),
    ),
    Probe(
        "open a socket whose family's upper half is set",
        "reached(call(41, 198, (1 << 32) | 40, socket.SOCK_STREAM, 0) >= 0)",
        CALLS,
        can_be_done=partial(has_family, socket.AF_VSOCK),
    ),
    Probe(
        "read shared memory of the host",
        "i = libc.shmget({shared}, 16, 0); libc.shmat.restype = ctypes.c_void_p; reached(i >= 0 and ctypes.string_at(libc.shmat(i, None, 0o10000), 6) == b'secret')",
        Walls(own_ipc=False),
    ),
    Probe("learn the host's name", "reached(socket.gethostname() == '{host}')", Walls(own_names=False)),
)

KERNEL = (
    Probe("make a user namespace", "reached(call(272, 97, 0x10000000) == 0)", CALLS),
    Probe(
        "make a user namespace by clone",
        "pid = call(56, 220, 0x10000000 | 17, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nreached(pid > 0)",
        CALLS,
    ),
    Probe("mount in a user namespace", "call(272, 97, 0x10020000); reached(call(165, 40, b'x', b'/tmp', b'tmpfs', 0, None) == 0)", CALLS),
    Probe("open a file system by the new calls", "call(272, 97, 0x10020000); reached(call(430, 430, b'tmpfs', 0) >= 0)", CALLS),
    Probe("keep a key", "reached(call(248, 217, b'user', b'name', b'secret', 6, -2) > 0)", CALLS),
    Probe(
        "name a file by its handle",
        "reached(call(303, 264, -100, b'/tmp', struct.pack('Ii', 0, 0), ctypes.byref(ctypes.c_int()), 0) == -errno.EOVERFLOW)",
        CALLS,
    ),
    Probe("read the clock's steering", "reached(call(159, 171, ctypes.create_string_buffer(512)) >= 0)", CALLS),
    Probe("handle page faults", "reached(call(323, 282, 1) not in (-errno.EPERM, -errno.ENOSYS))", CALLS),
    Probe("type into a terminal", "fd = os.open('/dev/null', os.O_RDWR); reached(call(16, 29, fd, 0x5412, b'x') == -errno.ENOTTY)", CALLS),
    Probe(
        "type into a terminal, the upper half of the request set",
        "fd = os.open('/dev/null', os.O_RDWR); reached(call(16, 29, fd, (1 << 32) | 0x5412, b'x') == -errno.ENOTTY)",
        CALLS,
    ),
    Probe("ask for rings", "reached(call(425, 425, 1, ctypes.create_string_buffer(120)) not in (-errno.EPERM, -errno.ENOSYS))", CALLS),
    Probe(
        "load a program into the kernel",
        "reached(call(321, 280, 5, ctypes.create_string_buffer(120), 120) not in (-errno.EPERM, -errno.ENOSYS))",
        CALLS_WITH_PRIVILEGE,
        root_only=True,
    ),
    Probe("swap memory out to a file", "reached(call(167, 224, b'/none', 0) == -errno.ENOENT)", CALLS_WITH_PRIVILEGE, root_only=True),
    Probe(
        "read the kernel's log",
        "reached(call(103, 116, 10, None, 0) >= 0)",
        CALLS_WITH_PRIVILEGE,
        root_only=True,
        can_be_done=reads_the_kernels_log,
    ),
    Probe("mount", "reached(call(165, 40, b'x', b'/tmp', b'tmpfs', 0, None) == 0)", CALLS_WITH_PRIVILEGE),
    Probe("become root", "os.setuid(0); reached(os.getuid() == 0)", PRIVILEGE),
    Probe("make a device", "os.mknod('/tmp/disk', 0o60666, os.makedev(1, 0)); reached(True)", PRIVILEGE, root_only=True),
    Probe("change the root directory", "os.chroot('/tmp'); reached(True)", CALLS_WITH_PRIVILEGE),
)

RESOURCES = (
    Probe("hold more memory than the box has", "x = bytearray(700 << 20); import time; time.sleep(1); reached(len(x) > 0)", LIMITS),
    Probe(
        "write more than the disk has",
        "f = open('/tmp/big', 'wb'); [f.write(bytes(1 << 20)) for _ in range(300)]; f.close(); reached(os.path.getsize('/tmp/big') == 300 << 20)",
        LIMITS,
    ),
    Probe(
        "have more processes than the box may",
        "import subprocess, time; p = [subprocess.Popen(['sleep', '5']) for _ in range(150)]; time.sleep(0.5); reached(all(q.poll() is None for q in p))",
        LIMITS,
    ),
)

PROBES = (*FILES, *PROCESS, *BOXD, *NEIGHBOURS, *REACH, *KERNEL, *RESOURCES)
"""Every one fails with `ALL_UP`, and succeeds in its control."""

WALLS_WITH_PROBES = {name for probe in PROBES for name in Walls.__slots__ if getattr(probe.down, name) != getattr(ALL_UP, name)}
