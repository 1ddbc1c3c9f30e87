"""HTTP by the standard library: kept connections to one farm, safe to use from many threads.

Used by both clients; the asynchronous one calls it in threads and aborts a call that nobody waits for any more.
"""

import gzip
import http.client
import socket
import ssl
import threading
import zlib
from collections.abc import Generator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from envfarm.client.exchange import Answer, Call, ServerProblem, problem_of

ANSWER_BYTES = 256 << 20
LINE_BYTES = 1 << 20
KEPT = 32
"""Idle connections."""


class Abort:
    """A way to end a call from another thread."""

    def __init__(self) -> None:
        self._connection: http.client.HTTPConnection | None = None
        self._aborted = False
        self._lock = threading.Lock()

    def holds(self, connection: http.client.HTTPConnection) -> None:
        """The call uses this one now. Raises `OSError` where it was aborted already."""
        with self._lock:
            self._connection = connection
            if self._aborted:
                raise ConnectionAbortedError("the call was given up")

    def now(self) -> None:
        """End it: whoever reads from the connection is woken."""
        with self._lock:
            self._aborted = True
            sock = self._connection.sock if self._connection is not None else None
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Transport:
    """Connections to one farm."""

    def __init__(self, url: str, token: str, *, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ServerProblem(f"{url!r} is no http(s) address")
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._token = token.strip()
        if not self._token.isascii() or not self._token.isprintable():
            raise ServerProblem("the token has characters that no token has")
        self._timeout_s = timeout_s
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False

    def send(self, call: Call[Any], abort: Abort | None = None) -> Answer | OSError:
        """The answer, or why there is none."""
        connection = self._take()
        try:
            reply = self._ask(connection, call, abort)
            body = reply.read(ANSWER_BYTES + 1)
            if reply.length and len(body) <= ANSWER_BYTES:
                raise http.client.IncompleteRead(body, reply.length)  # `read` with a bound does not say it itself
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            return e if isinstance(e, OSError) else ConnectionError(f"{type(e).__name__}: {e}")
        if len(body) > ANSWER_BYTES or reply.will_close or not reply.isclosed():
            connection.close()
        else:
            self._give_back(connection)
        headers = {name.lower(): value for name, value in reply.getheaders()}
        try:
            return Answer(reply.status, headers, _unpacked(headers, body))
        except (OSError, EOFError, zlib.error) as e:
            return ConnectionError(f"the answer's compression is damaged: {e}")

    def lines(self, call: Call[Any], abort: Abort) -> Generator[str, None, None]:
        """A stream's lines as they come; none where nothing is to come any more (204).

        Raises `OSError` where the stream breaks off, or ends without a line; `ServerProblem` for an answer that is no stream.
        """
        connection = self._take()
        try:
            reply = self._ask(connection, call, abort, {"Accept-Encoding": "identity"})
            if reply.status == http.HTTPStatus.NO_CONTENT:
                return
            if reply.status != http.HTTPStatus.OK:
                body = reply.read(LINE_BYTES)
                if reply.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or reply.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                    raise ConnectionError(f"status {reply.status}")
                raise problem_of(call, Answer(reply.status, {}, body))
            told = False
            while line := reply.readline(LINE_BYTES):
                told = True
                yield line.decode(errors="replace").rstrip("\r\n")
            if not told:
                raise ConnectionError("the stream ended before its first line")
        except http.client.HTTPException as e:
            raise ConnectionError(f"{type(e).__name__}: {e}") from e
        finally:
            connection.close()

    def close(self) -> None:
        """Let go of every idle connection."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _ask(
        self, connection: http.client.HTTPConnection, call: Call[Any], abort: Abort | None, more: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        timeout_s = self._timeout_s + call.wait_s
        connection.timeout = timeout_s
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(timeout_s)
        if abort is not None:
            abort.holds(connection)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json", "Accept-Encoding": "gzip"}
        connection.request(call.method, self._prefix + call.target, body=call.body, headers=headers | dict(call.headers) | (more or {}))
        return connection.getresponse()

    def _take(self) -> http.client.HTTPConnection:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.sock is not None and not _hung_up(connection.sock):
                    return connection
                connection.close()
        if self._tls is not None:
            return http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=self._timeout_s)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed and len(self._idle) < KEPT:
                self._idle.append(connection)
                return
        connection.close()


def _hung_up(sock: socket.socket) -> bool:
    """Whether the server closed an idle connection meanwhile: there is something to read, and it can only be the end."""
    if isinstance(sock, ssl.SSLSocket):
        return False  # found out by the failing request, which is sent again
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        sock.setblocking(True)


def _unpacked(headers: dict[str, str], body: bytes) -> bytes:
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
