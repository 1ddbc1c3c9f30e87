"""What hostile code in a pod's box tries. Each probe prints REACHED when it gets through; each gets through in a pod without walls.

As in `probes`: programs for the box's Python, with `call`, `reached` and, as pid 1, whatever the container began with. `{…}` stands for what
the test has put up. What would harm the node where it succeeds is asked for in a way that shows the right and does nothing with it.
"""

# ruff: noqa: E501 - a probe is one line, however long

from tests.hacking.probes import PRELUDE

REFUSED = "(-errno.EPERM, -errno.ENOSYS, -errno.EACCES)"
NETWORK = {
    "the API server by its address": "socket.create_connection(('{api}', {api_port}), 2); reached(True)",
    "the API server by its service": "socket.create_connection(('{service}', 443), 2); reached(True)",
    "a server outside of the cluster, by TCP": "reached(socket.create_connection(('{node}', {port}), 2).recv(6) == b'secret')",
    "a server outside of the cluster, by UDP": "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.sendto(b'x', ('{node}', {port})); reached(s.recv(6) == b'secret')",
    "the node's kubelet": "socket.create_connection(('{node}', 10250), 2); reached(True)",
    "a server of the node's loopback": "reached(socket.create_connection(('127.0.0.1', {loopback}), 2).recv(6) == b'secret')",
    "another box's boxd": "socket.create_connection(('{neighbour}', 7070), 2); reached(True)",
    "a tunnel through the cluster's names": "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.sendto(bytes.fromhex('1234010000010000000000000a6b756265726e657465730764656661756c740373766307636c7573746572056c6f63616c0000010001'), ('{names}', 53)); reached(len(s.recv(512)) > 12)",
    "the cluster's names by TCP": "socket.create_connection(('{names}', 53), 2); reached(True)",
    "a name through the box's own resolver": "reached(bool(socket.getaddrinfo('kubernetes.default.svc.cluster.local', 443)))",
    "raw packets": "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); reached(True)",
    "frames of the network device": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0); reached(True)",
    "another route": "s = socket.socket(); import fcntl; f = bytearray(fcntl.ioctl(s, 0x8913, struct.pack('16sh22x', b'lo', 0))); fcntl.ioctl(s, 0x8914, bytes(f)); reached(True)",
}
FILES = {
    "a token of the cluster": "reached(os.path.exists('/var/run/secrets/kubernetes.io/serviceaccount/token'))",
    "where the cluster is, from variables": "reached('KUBERNETES_SERVICE_HOST' in os.environ)",
    "files of the node": "reached(bool(os.listdir('/node/etc')))",
    "block devices of the node": "import stat; reached(any(stat.S_ISBLK(os.lstat('/dev/' + d).st_mode) for d in os.listdir('/dev')))",
    "the node's log": "os.close(os.open('/dev/kmsg', os.O_RDONLY)); reached(True)",
    "a setting of the kernel": "os.close(os.open('/proc/sys/kernel/printk', os.O_WRONLY)); reached(True)",
    "a cgroup's knobs": "import glob; f = [p for p in glob.glob('/sys/fs/cgroup/**/cgroup.procs', recursive=True)][0]; os.close(os.open(f, os.O_WRONLY)); reached(True)",
    "the passwords of the box": "open('/etc/shadow').read(); reached(True)",
    "the root of the box": "os.mkdir('/planted'); os.rmdir('/planted'); reached(True)",
    "programs of the box": "os.close(os.open('/bin/ls', os.O_WRONLY)); reached(True)",
}
FIRST_PROCESS = {
    "its environment": "open('/proc/1/environ', 'rb').read(); reached(True)",
    "its memory": "os.close(os.open('/proc/1/mem', os.O_RDWR)); reached(True)",
    "its descriptors": "reached(bool(os.listdir('/proc/1/fd')))",
    "its root": "reached(bool(os.listdir('/proc/1/root/')))",
    "its program": "os.close(os.open('/proc/1/exe', os.O_RDONLY)); reached(True)",
    "a signal to it": "os.kill(1, 0); reached(True)",
    "tracing it": "reached(libc.ptrace(0x4206, 1, 0, 0) == 0)",
    "its memory by the call for it": "class V(ctypes.Structure): _fields_ = [('p', ctypes.c_void_p), ('n', ctypes.c_size_t)]\nv = V(None, 0); reached(call(310, 270, 1, ctypes.byref(v), 1, ctypes.byref(v), 1, 0) not in (-errno.EPERM, -errno.ENOSYS))",
    "a limit of it": "reached(limit(1, 9, 1 << 40) == 0)",
    "its place among processes": "os.setpriority(os.PRIO_PROCESS, 1, 19); reached(True)",
    "its namespaces": "fd = os.open('/proc/1/ns/net', os.O_RDONLY); reached(call(308, 268, fd, 0) == 0)",
}
KERNEL = {
    "root": "os.setuid(0); reached(os.getuid() == 0)",
    "a mount": "reached(call(165, 40, b'x', b'/mnt', b'tmpfs', 0, None) == 0)",
    "a user namespace": "reached(call(272, 97, 0x10000000) == 0)",
    "a network namespace": "reached(call(272, 97, 0x40000000) == 0)",
    "a mount namespace": "reached(call(272, 97, 0x00020000) == 0)",
    "another root directory": "os.chroot('/tmp'); reached(True)",
    "a device": "os.mknod('/tmp/disk', 0o60600, os.makedev(7, 200)); os.unlink('/tmp/disk'); reached(True)",
    "a program in the kernel": f"reached(call(321, 280, 5, ctypes.create_string_buffer(120), 120) not in {REFUSED})",
    "swap": f"reached(call(167, 224, b'/none', 0) not in {REFUSED})",
    "the kernel's messages": "reached(call(103, 116, 10, None, 0) >= 0)",
    "a file by its handle": "reached(call(304, 265, -100, struct.pack('IiQ', 8, 1, 0), os.O_RDONLY) not in (-errno.EPERM, -errno.ENOSYS))",
    "page faults": f"reached(call(323, 282, 0) not in {REFUSED})",
    "a better place among processes": "os.setpriority(os.PRIO_PROCESS, 0, -5); reached(True)",
    "other capabilities": "reached(int([l for l in open('/proc/self/status') if l.startswith('CapBnd')][0].split()[1], 16) >> 21 & 1 == 1)",
    "privilege by a program that is set to root": "reached([l for l in open('/proc/self/status') if l.startswith('NoNewPrivs')][0].split()[1] == '0')",
    "calls without a filter": "reached([l for l in open('/proc/self/status') if l.startswith('Seccomp:')][0].split()[1] == '0')",
}
RESOURCES = {
    "more memory than the box has": "x = bytearray(700 << 20); reached(len(x) > 0)",
    "more disk than the box has": "f = open('/tmp/big', 'wb'); [f.write(bytes(1 << 20)) for _ in range(300)]; f.close(); n = os.path.getsize('/tmp/big'); os.unlink('/tmp/big'); reached(n == 300 << 20)",
    "more processes than the box may have": "import subprocess, time; p = [subprocess.Popen(['sleep', '9']) for _ in range(150)]; time.sleep(4.0); reached(all(q.poll() is None for q in p)); [q.kill() for q in p]",
}
PROBES = {
    f"{what}: {name}": PRELUDE + program
    for what, group in (
        ("network", NETWORK),
        ("files", FILES),
        ("the first process", FIRST_PROCESS),
        ("kernel", KERNEL),
        ("resources", RESOURCES),
    )
    for name, program in group.items()
}
