"""A web server on loopback that misbehaves by script, for tests of code that fetches pages and files."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """A reply. `cut`: send that many bytes of the body fewer than announced, and close the connection."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    cut: int = 0

    @property
    def content(self) -> bytes:
        """The complete body."""
        return self.raw if self.raw is not None else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """A received request."""

    path: str
    headers: Mapping[str, str]


Answer = Reply | Callable[[Asked], Reply]


class ScriptedServer:
    """Each path (query included) has its own replies, sent in order; the last one is repeated."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self.url = ""

    def on(self, path: str, *answers: Answer) -> None:
        """Set a path's replies."""
        self.answers[path] = list(answers)

    def paths(self) -> list[str]:
        """The paths of all requests so far."""
        return [a.path for a in self.asked]

    def reply(self, asked: Asked) -> Reply:
        """The next reply to a request; 404 if none was set."""
        self.asked.append(asked)
        known = self.answers.get(asked.path)
        if known is None:
            return Reply(404, {"message": f"nothing at {asked.path}"})
        answer = known.pop(0) if len(known) > 1 else known[0]
        return answer if isinstance(answer, Reply) else answer(asked)


@contextmanager
def serving(server: ScriptedServer) -> Iterator[ScriptedServer]:
    """Run the server on its own port, which is in its `url`, until the block ends."""

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            reply = server.reply(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}))
            content = b"" if reply.status == 304 else reply.content
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) - reply.cut])
            if reply.cut:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Log nothing: pytest's output is for people."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
    http.daemon_threads = True
    thread = threading.Thread(target=lambda: http.serve_forever(poll_interval=0.01))
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
