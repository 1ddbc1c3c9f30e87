"""A wire that can be harmed: an HTTP proxy before one server, which refuses, loses, delays or breaks off what it is told to.

Stands between a farm and its API server, and between nodes and their registry. What is not harmed passes unchanged, watches as they come.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, NamedTuple, Self

import urllib3

KEPT_BACK = frozenset({"connection", "transfer-encoding", "content-length", "host", "keep-alive"})
"""Headers that are one connection's own."""
WATCH = "watch=1"


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    """With its query."""

    @property
    def is_watch(self) -> bool:
        return WATCH in self.path


class Harm(NamedTuple):
    """What becomes of a request instead of being answered."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"{}"
    wait_s: float = 0.0
    """Before anything else."""
    lost: bool = False
    """It is carried out, and its answer never comes."""


Rule = Callable[[Asked], Harm | None]


class HttpWire:
    """One proxy, on loopback. Use it as a context."""

    def __init__(self, upstream: str, pool: urllib3.PoolManager) -> None:
        self._upstream = upstream
        self._pool = pool
        self._rules: list[Rule] = []
        self._streams: set[Any] = set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Connection", (_Connection,), {"wire": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="wire", daemon=True)
        self.harmed = 0
        """Requests so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.cut_streams()

    @property
    def address(self) -> str:
        return f"localhost:{self._server.server_address[1]}"

    @contextmanager
    def harming(self, rule: Rule) -> Iterator[None]:
        """Have it so until the block ends. Streams that are open already are not asked about: see `cut_streams`."""
        self._rules.append(rule)
        try:
            yield
        finally:
            self._rules.remove(rule)

    def cut_streams(self) -> int:
        """Break off every watch that is open; how many."""
        streams = list(self._streams)
        for stream in streams:
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                stream.shutdown()
        return len(streams)

    def harm(self, asked: Asked) -> Harm | None:
        found = next((harm for rule in list(self._rules) if (harm := rule(asked)) is not None), None)
        self.harmed += found is not None
        return found

    def pass_on(self, asked: Asked, body: bytes, headers: dict[str, str]) -> Any:
        """The server's answer, not read yet."""
        return self._pool.request(
            asked.method, self._upstream + asked.path, body=body, headers=headers, retries=False, redirect=False, preload_content=False
        )

    @contextmanager
    def streaming(self, reply: Any) -> Iterator[None]:
        self._streams.add(reply)
        try:
            yield
        finally:
            self._streams.discard(reply)
            reply.close()


class _Connection(BaseHTTPRequestHandler):
    wire: ClassVar[HttpWire]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _relay(self) -> None:
        asked = Asked(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        harm = self.wire.harm(asked) or Harm()
        time.sleep(harm.wait_s)
        if harm.status:
            self._answer(harm.status, harm.headers, harm.body)
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in KEPT_BACK}
        try:
            reply = self.wire.pass_on(asked, body, headers)
        except urllib3.exceptions.HTTPError:
            self.close_connection = True
            return
        if harm.lost:
            reply.drain_conn()
            self.close_connection = True
        elif asked.is_watch:
            self._stream(reply)
        else:
            kept = tuple((name, value) for name, value in reply.headers.items() if name.lower() not in KEPT_BACK)
            self._answer(reply.status, kept, reply.read(decode_content=False), length=reply.headers.get("Content-Length"))

    def _answer(self, status: int, headers: tuple[tuple[str, str], ...], body: bytes, *, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length if length and self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _stream(self, reply: Any) -> None:
        self.send_response_only(reply.status)
        self.send_header("Content-Type", reply.headers.get("Content-Type", "application/json"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        with self.wire.streaming(reply), contextlib.suppress(OSError, urllib3.exceptions.HTTPError):
            for piece in reply.stream(64 << 10, decode_content=False):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # whoever asked has hung up
            super().handle()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _relay  # noqa: N815 - the server's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""
