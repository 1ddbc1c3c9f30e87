"""Serves an open door of a box: connections to boxd wait for programs in the box, and are then served like accepted connections.

The farm never connects to anything in the box. When boxd announces a program, the farm's own connection becomes that program's, and a
protocol of the farm answers on it. The bytes are hostile: the protocol must treat them so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from envfarm.core.awake import awake_timeout
from envfarm.sandboxes.boxd_connection import HEAD_BYTES, ConnectionLost, Endpoint, connect

log = logging.getLogger(__name__)

WAITING = 2
"""Calls waiting at a door: one more than needed, so that a next program finds one while the other is handed over."""
WAIT_S = 50
SHUT = frozenset({b"404", b"409"})
"""Statuses of a door that is closed, and of one whose box another holder has."""


class Way(NamedTuple):
    """How a door reaches boxd."""

    endpoint: Endpoint
    head: bytes
    """Header lines of every request."""
    answer_s: float = 75.0
    """For boxd's answer to a call."""
    again_s: Sequence[float] = (0.05, 0.2, 1.0)
    """Waits after consecutive failed calls; the last one from then on."""


class AttendedDoor:
    """One open door. It is attended until `close`, or until boxd has closed it, however long boxd cannot be reached in between."""

    def __init__(
        self,
        door_id: str,
        port: int,
        way: Way,
        serve: Callable[[], asyncio.Protocol],
        *,
        shut: Callable[[], Awaitable[None]],
        cut_off: Callable[[float, OSError], None],
    ) -> None:
        """`cut_off` is told at each failed try for how many seconds by now no call has waited at the door, and why."""
        self.port = port
        self._way = way
        self._serve = serve
        self._shut = shut
        self._cut_off = cut_off
        self._request = b"POST /v1/doors/%s/next?wait_s=%d HTTP/1.1\r\n%sContent-Length: 0\r\n\r\n" % (
            door_id.encode(),
            WAIT_S,
            way.head,
        )
        self._served: set[asyncio.Transport] = set()
        self._waiting = 0
        self._waited_until_s = asyncio.get_running_loop().time()
        self._attending = [asyncio.create_task(self._attend(), name=f"door {door_id}") for _ in range(WAITING)]

    async def close(self) -> None:
        """See `Door.close`."""
        attending, self._attending = self._attending, []
        for task in attending:
            task.cancel()
        await asyncio.gather(*attending, return_exceptions=True)
        for transport in tuple(self._served):
            transport.abort()
        if attending:
            await self._shut()

    async def _attend(self) -> None:
        loop, failed, again_s = asyncio.get_running_loop(), 0, self._way.again_s
        while True:
            try:
                async with awake_timeout(self._way.answer_s):  # a program may have come while this process was suspended
                    if not await self._next():
                        return
                failed = 0
            except OSError as e:
                if not self._waiting:
                    self._cut_off(loop.time() - self._waited_until_s, e)
                failed += 1
                if failed == len(again_s):
                    log.warning("the door at port %d of a box has waited for boxd %d times in vain: %s", self.port, failed, e)
                await asyncio.sleep(again_s[min(failed, len(again_s)) - 1])

    async def _next(self) -> bool:
        """Wait for one connection and hand it over. Returns whether the door is still open."""
        transport, asking = await connect(self._way.endpoint, lambda: _Asking(self._request))
        self._waiting += 1
        try:
            status, rest = await asking.answered
        except BaseException:
            transport.abort()
            raise
        finally:
            self._waiting -= 1
            self._waited_until_s = asyncio.get_running_loop().time()
        if status == b"101":
            self._turn(transport, rest)
            return True
        transport.abort()
        if status == b"200" or status in SHUT:
            return status == b"200"
        raise ConnectionLost(f"boxd answered {status!r}")

    def _turn(self, transport: asyncio.Transport, said: bytes) -> None:
        protocol = _Followed(self._serve(), lambda: self._served.discard(transport))
        self._served.add(transport)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        if said:
            protocol.data_received(said)


class _Asking(asyncio.Protocol):
    """One call, until its answer's head. What follows the head of a 101 belongs to the program."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.answered: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream was asked for
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if self.answered.done() or self._transport is None:
            return
        if end < 0:
            if len(self._buffer) > HEAD_BYTES:
                self._transport.abort()
            return
        self._transport.pause_reading()  # until the protocol that answers is set
        words = bytes(self._buffer[:end]).split(b" ", 2)
        self.answered.set_result((words[1] if len(words) > 1 else b"", bytes(self._buffer[end + 4 :])))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(ConnectionError(f"boxd closed the connection{f' ({exc})' if exc else ''}"))


class _Followed(asyncio.Protocol):
    """Wraps a protocol to report its end."""

    def __init__(self, inner: asyncio.Protocol, over: Callable[[], None]) -> None:
        self._inner = inner
        self._over = over
        self.connection_made = inner.connection_made  # type: ignore[method-assign]
        self.data_received = inner.data_received  # type: ignore[method-assign]
        self.eof_received = inner.eof_received  # type: ignore[method-assign]
        self.pause_writing = inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = inner.resume_writing  # type: ignore[method-assign]

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()
        with contextlib.suppress(ConnectionError):
            self._inner.connection_lost(exc)
