"""The provider's side of the launcher: starts it, sends requests, and learns which boxes ended."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NamedTuple

from envfarm.core.errors import SandboxError
from envfarm.core.ids import BoxId

MESSAGE_BYTES = 1 << 20
PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from envfarm.sandboxes.local_launcher import main; main()"
PACKAGE_ROOT = Path(__file__).resolve().parent.parent.parent
ANSWER_S = 120.0
"""A launcher that has ended is seen at once; this is for one that hangs. Starting it may take half a minute on a machine full of work."""


class Started(NamedTuple):
    """A box's first process."""

    pid: int
    started: int
    """Its start time, in clock ticks since boot."""


class Starter:
    """One launcher process, started at the first request. Bound to that request's event loop."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._channel: socket.socket | None = None
        self._starting: dict[BoxId, asyncio.Future[Started]] = {}
        self._running: dict[BoxId, asyncio.Future[int]] = {}
        self._launch = asyncio.Lock()

    async def start(self, box: BoxId, request: dict[str, Any], fds: list[int]) -> Started:
        """Start a box. Raises `SandboxError` if the launcher is gone or does not answer."""
        async with self._launch:
            if self._channel is None:
                await self._start_launcher()
        channel = self._channel
        if channel is None:
            raise SandboxError("the launcher of local boxes is gone")
        answer: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self._starting[box] = answer
        self._running[box] = asyncio.get_running_loop().create_future()
        try:
            data = json.dumps({"box": box, **request}).encode()
            async with asyncio.timeout(ANSWER_S):
                while True:
                    try:
                        socket.send_fds(channel, [data], fds)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(0.001)
                return await answer
        except (OSError, TimeoutError) as e:
            raise SandboxError(f"the launcher of local boxes does not answer: {str(e) or f'{ANSWER_S:g} s without an answer'}") from e
        finally:
            self._starting.pop(box, None)

    def end_of(self, box: BoxId) -> asyncio.Future[int]:
        """The exit status of the box's first process, or a negative signal number. For boxes that were started and not forgotten."""
        return self._running[box]

    def forget(self, box: BoxId) -> None:
        """Stop watching a box that was removed."""
        self._running.pop(box, None)

    async def close(self) -> None:
        """End the launcher and the boxes that it still has."""
        channel, self._channel = self._channel, None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel)
            channel.close()
        if self._process is not None:
            await self._process.wait()
            self._process = None

    async def _start_launcher(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
        argv = (sys.executable, "-I", "-S", "-c", PROGRAM, str(PACKAGE_ROOT))
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=None,
                start_new_session=True,
                env={"PATH": os.defpath},
            )
        ours.setblocking(False)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours, self._hear)

    def _hear(self) -> None:
        channel = self._channel
        if channel is None:
            return
        while True:
            try:
                data = channel.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._launcher_is_gone()
                return
            self._note(json.loads(data))

    def _note(self, said: dict[str, Any]) -> None:
        box = BoxId(said["box"])
        if "exit" in said:
            end = self._running.get(box)
            if end is not None and not end.done():
                end.set_result(said["exit"])
            return
        answer = self._starting.get(box)
        if answer is not None and not answer.done():
            answer.set_result(Started(said["pid"], said["started"]))
        else:  # the caller was cancelled or timed out, and does not know the pid to kill
            with contextlib.suppress(ProcessLookupError):
                os.kill(said["pid"], signal.SIGKILL)

    def _launcher_is_gone(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            asyncio.get_running_loop().remove_reader(channel)
            with contextlib.suppress(OSError):
                channel.close()
        for answer in self._starting.values():
            if not answer.done():
                answer.set_exception(SandboxError("the launcher of local boxes ended"))
        for end in self._running.values():
            if not end.done():
                end.set_result(-signal.SIGKILL)
