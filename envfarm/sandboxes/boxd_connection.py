"""HTTP/1.1 to one boxd: kept-alive connections over a unix socket or TCP.

Strict and small on purpose: every command of an agent passes here, and the peer is in a hostile box. A reply in any form that boxd does
not send ends the connection. It knows nothing of execs and retries nothing.
"""

import asyncio
import errno
import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import NamedTuple, TypeVar

from envfarm.core.awake import awake_timeout

HEAD_BYTES = 16 << 10
"""The longest head of a reply."""
MAX_CONNECTIONS = 256
"""To one box at once: half of what boxd admits."""
WRITE_BYTES = 1 << 20
"""How much of a large body is written at once. The rest waits until the peer has taken it, and is not copied."""

OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors of connecting that mean a lack of resources of this process or machine: descriptors, memory, ports."""

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [^\r\n]*")
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")

P = TypeVar("P", bound=asyncio.Protocol)


class ConnectionLost(ConnectionError):  # noqa: N818 - a state, as in `BoxLost`
    """The connection could not be made, ended early, or carried an invalid reply."""

    def __init__(self, what: str, *, refused: bool = False) -> None:
        super().__init__(what)
        self.refused = refused
        """Whether it was refused before boxd took any part in it."""


class NoRoom(OSError):  # noqa: N818 - a state, as in `BoxLost`
    """This machine cannot open more connections. It says nothing of the peer."""


class ReplyTooLarge(Exception):  # noqa: N818 - a state, as in `BoxLost`
    """The reply is longer than allowed. A retry would give the same."""


class Reply(NamedTuple):
    """One reply."""

    status: int
    body: bytes


class Endpoint(NamedTuple):
    """Where a boxd listens. Exactly one of `path` and `host` is set."""

    path: str = ""
    host: str = ""
    port: int = 0


async def connect(endpoint: Endpoint, protocol: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    """Make a connection. Raises `ConnectionLost` and `NoRoom`."""
    loop = asyncio.get_running_loop()
    try:
        if endpoint.path:
            return await loop.create_unix_connection(protocol, endpoint.path)
        return await loop.create_connection(protocol, endpoint.host, endpoint.port)
    except OSError as e:
        if e.errno in OWN_LIMITS:
            raise NoRoom(f"this machine cannot open a connection: {e}") from e
        raise ConnectionLost(f"boxd cannot be reached: {e}", refused=not isinstance(e, TimeoutError)) from e


class _Head(NamedTuple):
    status: int
    length: int | None
    """None for a chunked body."""
    close: bool


def parse_head(head: bytes) -> _Head:
    """The status and the framing of a reply. Raises `ConnectionLost` if anything is ambiguous."""
    status_line, *lines = head.split(b"\r\n")
    match = STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise ConnectionLost(f"not a valid reply of boxd: {status_line[:80]!r}")
    length: int | None = None
    chunked = close = False
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if not colon:
            raise ConnectionLost("a malformed header line in a reply")
        if name == b"content-length":
            if length is not None or not value.isdigit():
                raise ConnectionLost("a malformed Content-Length in a reply")
            length = int(value)
        elif name == b"transfer-encoding":
            chunked = value.lower() == b"chunked"
        elif name == b"connection":
            close = value.lower() == b"close"
    if chunked == (length is not None):
        raise ConnectionLost("a reply without exactly one framing")
    return _Head(int(match[1]), length, close)


class BodyReader:
    """Parses one reply from the bytes of a connection. `feed` returns the reply once it is complete."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._body = bytearray()
        self._chunk_left: int | None = None
        self._trailer = False

    @property
    def keeps_connection(self) -> bool:
        """Whether the connection may carry another request."""
        return self._head is not None and not self._head.close and not self._buffer

    def feed(self, data: bytes) -> Reply | None:
        """Add bytes. Raises `ConnectionLost` if they are not a valid reply, `ReplyTooLarge` if the reply exceeds the limit."""
        self._buffer += data
        if self._head is None and not self._take_head():
            return None
        head = self._head
        if head is None:
            return None
        if head.length is None:
            return Reply(head.status, bytes(self._body)) if self._take_chunks() else None
        self._check_size(head.length)
        if len(self._buffer) < head.length:
            return None
        with memoryview(self._buffer) as seen:
            body = bytes(seen[: head.length])
        del self._buffer[: head.length]
        return Reply(head.status, body)

    def _take_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES:
                raise ConnectionLost("the head of a reply is too long")
            return False
        head = parse_head(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        if head.status >= HTTPStatus.OK:
            self._head = head
            return True
        raise ConnectionLost("an unexpected interim reply")

    def _take_chunks(self) -> bool:
        while True:
            if self._chunk_left is None:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    if len(self._buffer) > HEAD_BYTES:
                        raise ConnectionLost("the size of a chunk is too long")
                    return False
                size = bytes(self._buffer[:end])
                del self._buffer[: end + 2]
                if self._trailer:
                    if size:
                        raise ConnectionLost("a trailer in a reply")
                    return True
                if not CHUNK_SIZE.fullmatch(size):
                    raise ConnectionLost("a malformed chunk in a reply")
                self._chunk_left = int(size, 16)
                if self._chunk_left == 0:
                    self._trailer, self._chunk_left = True, None
                    continue
                self._check_size(len(self._body) + self._chunk_left)
            if len(self._buffer) < self._chunk_left + 2:
                return False
            if self._buffer[self._chunk_left : self._chunk_left + 2] != b"\r\n":
                raise ConnectionLost("a chunk longer than its size")
            self._body += self._buffer[: self._chunk_left]
            del self._buffer[: self._chunk_left + 2]
            self._chunk_left = None

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            raise ReplyTooLarge(f"a reply of more than {self._max_bytes} bytes")


class _Wire(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.open = False
        self._transport: asyncio.Transport | None = None
        self._reader: BodyReader | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport
        self.open = True

    def data_received(self, data: bytes) -> None:
        reader, answer = self._reader, self._answer
        if reader is None or answer is None or answer.done():
            self.close()
            return
        try:
            reply = reader.feed(data)
        except (ConnectionLost, ReplyTooLarge) as e:
            self.close()
            answer.set_exception(e)
            return
        if reply is not None:
            if not reader.keeps_connection:
                self.close()
            self._reader = None
            answer.set_result(reply)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionLost(f"boxd closed the connection{f' ({exc})' if exc else ''}"))

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, head: bytes, body: Sequence[bytes], max_bytes: int) -> Reply:
        if self._transport is None or not self.open:
            raise ConnectionLost("the connection is closed")
        self._reader = BodyReader(max_bytes)
        self._answer = asyncio.get_running_loop().create_future()
        self._answer.add_done_callback(lambda _: self._writable.set())
        whole = False
        try:
            sent = await self._send(self._transport, [head, *body], self._answer)
            reply = await self._answer
            whole = sent
            return reply
        finally:
            if not whole:  # cancelled (even while the reply came) or failed: later bytes belong to no request
                self.close()
            self._answer = None

    async def _send(self, to: asyncio.Transport, pieces: Sequence[bytes], answer: asyncio.Future[Reply]) -> bool:
        """Returns whether all was sent. A reply that comes earlier is a refusal."""
        if sum(map(len, pieces)) <= HEAD_BYTES:
            to.write(b"".join(pieces))
            return True
        for piece in pieces:
            seen = memoryview(piece)
            for start in range(0, len(seen), WRITE_BYTES):
                if answer.done():
                    return False
                to.write(seen[start : start + WRITE_BYTES])
                await self._writable.wait()
        return True


class BoxdConnections:
    """The connections to one boxd. Bound to an event loop at the first request."""

    def __init__(self, endpoint: Endpoint, *, token: str, epoch: int) -> None:
        self.endpoint = endpoint
        self.fixed_head = f"Host: boxd\r\nAuthorization: Bearer {token}\r\nX-Boxd-Epoch: {epoch}\r\n".encode()
        self._idle: list[_Wire] = []
        self._busy: set[_Wire] = set()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._closed = False

    async def request(
        self, method: str, target: str, body: bytes | Sequence[bytes] = b"", *, timeout_s: float, max_bytes: int = 64 << 20
    ) -> Reply:
        """Send one request, with its body in one or more pieces, and wait for the reply.

        `target` is percent-encoded. Raises `ConnectionLost` (it is unknown what the request did), `NoRoom`, `ReplyTooLarge`, and
        `TimeoutError` if the peer is silent. Time in which this process was suspended does not count.
        """
        pieces = (body,) if isinstance(body, bytes) else body
        length = sum(map(len, pieces))
        head = b"%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n" % (method.encode(), target.encode(), self.fixed_head, length)
        async with self._slots, awake_timeout(timeout_s):
            wire = await self._take()
            self._busy.add(wire)
            try:
                reply = await wire.exchange(head, pieces, max_bytes)
            finally:
                self._busy.discard(wire)
        if wire.open and not self._closed:
            self._idle.append(wire)
        else:
            wire.close()
        return reply

    async def _take(self) -> _Wire:
        while self._idle:
            wire = self._idle.pop()
            if wire.open:
                return wire
        if self._closed:
            raise ConnectionLost("the box was closed")
        _, made = await connect(self.endpoint, _Wire)
        return made

    def renew(self) -> None:
        """Close every idle connection: further requests go over new ones."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close every idle connection, and make no new ones. May be called again."""
        self._closed = True
        self.renew()

    def cut(self) -> None:
        """Close every connection. Requests in progress raise `ConnectionLost`."""
        self.close()
        for wire in list(self._busy):
            wire.close()
