"""The process that starts local boxes: `LocalProvider` runs one beside itself and sends it a request per box. Standard library only.

It exists because a box has to be started from a process with one thread (namespaces, a change of user and the signal at the parent's death
belong to threads), and because forking something small is fast. When its provider ends it ends its boxes, and then itself. It decides
nothing: a request says what to mount and what to run (see `local_plan`).

For each box: a private mount namespace (as an ordinary user: in a user namespace), a stage in it on which layers, overlays and the box's
writable space are put together, then bubblewrap, without privilege, which makes the box of the stage's parts.
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
"""The exit status of a box that did not get as far as bubblewrap; its log says why."""


def main() -> None:
    """Serve requests on descriptor 0 until its peer is gone. Then this process ends every box, and itself."""
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
    """The state of the serving loop: which child is which box, and the descriptors that are held for it."""

    def __init__(self, channel: socket.socket, wakeup: int) -> None:
        self._channel = channel
        self._wakeup = wakeup
        self._boxes: dict[int, tuple[str, list[int]]] = {}
        self._kernel = Kernel()
        self._kernel.adopt_orphans()

    def serve(self) -> None:
        """Until the provider is gone."""
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
        """Kill all that was started here, and wait for it.

        The signal at the parent's death does not suffice: bubblewrap asks for it anew after each change of credentials, and a parent
        that died in between is not noticed. What loses its parent comes to this process, and its turn comes with the next look.
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
            raise RuntimeError("a request that is too long")
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
    """This process's children; none where the kernel does not tell."""
    me = os.getpid()
    with contextlib.suppress(OSError), open(f"/proc/{me}/task/{me}/children", "rb") as file:  # noqa: PTH123 - pathlib is not loaded
        return [int(pid) for pid in file.read().split()]
    return []


def _become_box(kernel: Kernel, request: dict[str, Any], listener: int, launcher: int) -> None:
    """In the child. Never returns: it becomes bubblewrap, or ends with what went wrong in the box's log."""
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
    except BaseException:  # noqa: BLE001 - the end of a forked child: nothing may go on from here
        text = traceback.format_exc() if sys.exc_info()[0] is not None else ""
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="replace"))
    finally:
        os._exit(CANNOT_START)


def _join_groups(files: list[str]) -> None:
    """Join as `0`, itself: a thread that moves itself needs not wait for every other fork and exit of the machine, some 10 ms."""
    for path in files:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a real-time process joins no cpu group; the watchdog keeps what a group does not
            os.write(fd, b"0")
        os.close(fd)


def _memory_file(name: str, content: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _drop(kernel: Kernel, uid: int | None, launcher: int) -> None:
    """Take the box's own user where there is one; in any case keep nothing that a box could use."""
    with contextlib.suppress(OSError):  # a box's processes go first when memory runs out; boxd lowers its own again
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
    """A duplicate beyond the numbers that are handed on."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD, 64)
