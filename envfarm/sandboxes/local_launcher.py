"""The process that starts local boxes. `LocalProvider` runs one and sends it a request per box. Standard library only.

A box must be started from a single-threaded process (namespaces, changes of user and the parent-death signal are per thread), and forking
a small process is fast. When its provider ends, the launcher ends its boxes and then itself. It decides nothing: a request says what to
mount and what to run (see `local_plan`).

Each box gets a private mount namespace (for an ordinary user: in a user namespace) with a stage, on which layers, overlays and the box's
writable space are mounted; then unprivileged bubblewrap assembles the box from the stage's parts.
"""

import base64
import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from typing import Any

from envfarm.sandboxes import local_stage
from envfarm.sandboxes.local_syscalls import Kernel

MESSAGE_BYTES = 1 << 20
CONFIG_FD = 3
LISTEN_FD = 4
SECCOMP_FD = 5
CANNOT_START = 125
"""The exit status of a box that failed before bubblewrap was started; its log has the reason."""


def main() -> None:
    """Serve requests on descriptor 0 until its peer is gone. Then end every box, and return."""
    channel = socket.socket(fileno=os.dup(0))
    channel.setblocking(False)
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    launcher = Launcher(channel, wake_r)
    launcher.serve()
    launcher.end_boxes()


class Launcher:
    """The state of the serving loop: which child is which box, and the descriptors held for it."""

    def __init__(self, channel: socket.socket, wakeup: int) -> None:
        self._channel = channel
        self._wakeup = wakeup
        self._boxes: dict[int, tuple[str, list[int]]] = {}
        self._kernel = Kernel()
        self._kernel.adopt_orphans()

    def serve(self) -> None:
        """Serve until the provider is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wakeup in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wakeup, 4096)
                self._reap()
            if self._channel.fileno() in ready and not self._take():
                return

    def end_boxes(self) -> None:
        """Kill everything that was started here, and wait for it.

        The parent-death signal is not enough: bubblewrap requests it anew after each change of credentials, and misses a parent that
        died in between. Orphans become children of this process, so the next iteration finds them.
        """
        while True:
            for pid in _children() or list(self._boxes):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            try:
                ended, _ = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            self._boxes.pop(ended, None)

    def _take(self) -> bool:
        try:
            data, fds, flags, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, 4)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not data:
            return False
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise RuntimeError("a request is too long")
        request = json.loads(data)
        launcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_box(self._kernel, request, fds[0], launcher)
        os.close(fds[0])
        self._boxes[pid] = (request["box"], fds[1:])
        self._say({"box": request["box"], "pid": pid, "started": local_stage.start_time(pid)})
        return True

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            box, held = self._boxes.pop(pid, ("", []))
            for fd in held:
                os.close(fd)
            if box:
                self._say({"box": box, "exit": os.waitstatus_to_exitcode(status)})

    def _say(self, message: dict[str, Any]) -> None:
        self._channel.setblocking(True)
        with contextlib.suppress(ConnectionError):
            self._channel.send(json.dumps(message).encode())
        self._channel.setblocking(False)


def _children() -> list[int]:
    """This process's children; empty if the kernel does not provide them."""
    me = os.getpid()
    with contextlib.suppress(OSError), open(f"/proc/{me}/task/{me}/children", "rb") as file:  # noqa: PTH123 - pathlib is not loaded
        return [int(pid) for pid in file.read().split()]
    return []


def _become_box(kernel: Kernel, request: dict[str, Any], listener: int, launcher: int) -> None:
    """Runs in the child and never returns: it becomes bubblewrap, or exits with the error in the box's log."""
    try:
        signal.set_wakeup_fd(-1)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        kernel.die_with_parent()
        os.setsid()
        _join_groups(request["cgroups"])
        descriptors = [_memory_file("config", json.dumps(request["config"]).encode()), listener]
        if request["seccomp"]:
            descriptors.append(_memory_file("filter", base64.b64decode(request["seccomp"])))
        local_stage.build(kernel, request)
        _drop(kernel, request["uid"], launcher)
        _exec(request["argv"], descriptors)
    except BaseException:  # noqa: BLE001 - the forked child must never continue past this point
        text = traceback.format_exc() if sys.exc_info()[0] is not None else ""
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="replace"))
    finally:
        os._exit(CANNOT_START)


def _join_groups(files: list[str]) -> None:
    """Join by writing `0`, meaning itself: a thread that moves itself need not wait (some 10 ms) for all forks and exits of the machine."""
    for path in files:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a real-time process cannot join a cpu group; then the watchdog keeps the limits
            os.write(fd, b"0")
        os.close(fd)


def _memory_file(name: str, content: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _drop(kernel: Kernel, uid: int | None, launcher: int) -> None:
    """Switch to the box's own user, if it has one, and drop whatever a box could use."""
    with contextlib.suppress(OSError):  # boxes are killed first if memory runs out; boxd lowers its own score
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, b"500")
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0o022)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        kernel.die_with_parent()
    if os.getppid() != launcher:
        raise RuntimeError("the launcher is gone")


def _exec(argv: list[str], descriptors: list[int]) -> None:
    high = [_above(fd) for fd in descriptors]
    for number, fd in zip((CONFIG_FD, LISTEN_FD, SECCOMP_FD), high, strict=False):
        os.dup2(fd, number)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(CONFIG_FD + len(descriptors), 1 << 16)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.execve(argv[0], argv, {"PATH": "/usr/bin:/bin"})  # noqa: S606 - no shell is wanted


def _above(fd: int) -> int:
    """A duplicate above the descriptor numbers that are passed on."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 64)
