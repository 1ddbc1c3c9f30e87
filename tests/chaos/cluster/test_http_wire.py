"""The wire does to requests what it is told to, and nothing else."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from tests.chaos.cluster.http_wire import Asked, Harm, HttpWire


class Server(BaseHTTPRequestHandler):
    """Says what it was asked; a watch says one thing and then nothing."""

    protocol_version = "HTTP/1.1"
    asked: list[str] = []
    over = threading.Event()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = json.dumps({"path": self.path}).encode()
        self.send_response(200)
        if "watch=1" in self.path:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
            self.over.wait(20)
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def wire() -> Iterator[HttpWire]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Server.asked.clear()
    Server.over.clear()
    pool = urllib3.PoolManager()
    with HttpWire(f"http://127.0.0.1:{server.server_port}", pool) as made:
        yield made
        Server.over.set()
    pool.clear()
    server.shutdown()
    server.server_close()


def get(wire: HttpWire, path: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager() as pool:
        return pool.request("GET", f"http://{wire.address}{path}", retries=False, timeout=5.0)


def test_what_is_not_harmed_passes(wire: HttpWire) -> None:
    assert get(wire, "/a?b=1").json() == {"path": "/a?b=1"}
    assert wire.harmed == 0


def test_a_refusal_reaches_nobody_and_ends_with_its_block(wire: HttpWire) -> None:
    def rule(asked: Asked) -> Harm | None:
        return Harm(429, (("Retry-After", "1"),)) if asked.path == "/a" else None

    with wire.harming(rule):
        refused = get(wire, "/a")
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert get(wire, "/b").status == 200
    assert Server.asked == ["/b"]
    assert get(wire, "/a").status == 200
    assert wire.harmed == 1


def test_a_lost_answer_was_carried_out(wire: HttpWire) -> None:
    with wire.harming(lambda _: Harm(lost=True)), pytest.raises(urllib3.exceptions.ProtocolError):
        get(wire, "/a")
    assert Server.asked == ["/a"]


def test_a_watch_comes_as_it_is_told_and_can_be_cut(wire: HttpWire) -> None:
    with urllib3.PoolManager() as pool:
        reply = pool.request("GET", f"http://{wire.address}/a?watch=1", preload_content=False, retries=False, timeout=10.0)
        pieces = reply.stream()
        assert json.loads(next(pieces)) == {"path": "/a?watch=1"}
        assert wire.cut_streams() == 1
        with pytest.raises((urllib3.exceptions.ProtocolError, StopIteration)):
            next(pieces)
        reply.close()
