"""A web server on loopback that misbehaves by script, and a clock that waits without waiting."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from envfarm.testing.git_repository import Repository
from task_builders.sources.patience import Patience


@dataclass(frozen=True)
class Reply:
    """What the server answers. `cut` sends that many bytes of the body fewer than announced, and hangs up."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    cut: int = 0

    @property
    def content(self) -> bytes:
        return self.raw if self.raw is not None else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]


Answer = Reply | Callable[[Asked], Reply]


class ScriptedServer:
    """Each path (query included) has its answers: one after the other, the last for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self.url = ""

    def on(self, path: str, *answers: Answer) -> None:
        self.answers[path] = list(answers)

    def paths(self) -> list[str]:
        return [a.path for a in self.asked]

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        known = self.answers.get(asked.path)
        if known is None:
            return Reply(404, {"message": f"nothing at {asked.path}"})
        answer = known.pop(0) if len(known) > 1 else known[0]
        return answer if isinstance(answer, Reply) else answer(asked)


@contextmanager
def serving(server: ScriptedServer) -> Iterator[ScriptedServer]:
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
            """Say nothing: pytest's output is for people."""

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


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving(ScriptedServer()) as running:
        yield running


@dataclass
class HeldClock:
    """Time that moves by waiting alone."""

    seconds: float = 1_700_000_000.0
    waits: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def patience(self) -> Patience:
        return Patience(now=lambda: self.seconds, sleep=self.sleep, progress=self.said.append)


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    return Repository.make(tmp_path / "upstream")
