"""A daemon that fails or is lost in the middle of a build says nothing of the recipe. It is played by a server that breaks off."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from envfarm.core.errors import BuildOutage, ImageError
from envfarm.images.docker_build import DockerBuilder
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.factories import make_recipe
from envfarm.testing.scripted_box import ScriptedProvider

SAID = b'{"stream": "Step 1/2 : FROM scratch"}\n'
FAILED = SAID + b'{"error": "The command returned a non-zero code: 3"}\n'


@contextmanager
def daemon(status: int, said: bytes, *, ends: bool) -> Iterator[str]:
    """Answers a build with an error, or with the beginning of a stream, which it ends or breaks off in the middle of a message."""

    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(200, json.dumps({"ApiVersion": "1.43"} if self.path == "/version" else []).encode())

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.close_connection = True
            if status >= HTTPStatus.BAD_REQUEST:
                self.answer(status, said)
                return
            self.send_response(status)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(said), said) if said else b"")
            self.wfile.write(b"0\r\n\r\n" if ends else b"100\r\n{")

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
    thread = threading.Thread(target=lambda: http.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


async def build(cache: Path, at: str) -> None:
    builder = DockerBuilder(ScriptedProvider(), cache, blobs=MemoryBlobs(), uv_version="0", variables={}, daemon=at)
    await builder.build(make_recipe(), checkout=None)


@pytest.mark.parametrize(
    ("status", "said", "how"),
    [
        (200, SAID, {"ends": False}),
        (200, SAID, {"ends": True}),
        (200, b"", {"ends": True}),
        (200, FAILED.replace(b"code: 3", b"code: 137"), {"ends": True}),
        (200, SAID + b'{"stream": "c++: fatal error: Killed signal terminated program cc1plus"}\n' + FAILED, {"ends": True}),
        (500, b'{"message": "no space left on device"}', {"ends": True}),
    ],
    ids=["is lost", "ends without a word", "says nothing", "has its step killed", "has its compiler killed", "fails"],
)
async def test_a_recipe_is_not_refused_where_the_daemon(tmp_path: Path, status: int, said: bytes, how: dict[str, bool]) -> None:
    with daemon(status, said, **how) as at, pytest.raises(BuildOutage, match=r"Docker|ran out of memory"):
        await build(tmp_path, at)


@pytest.mark.parametrize(("status", "said"), [(200, FAILED), (400, b'{"message": "unknown instruction"}')], ids=["step", "request"])
async def test_what_the_daemon_says_of_the_recipe_is_the_recipes(tmp_path: Path, status: int, said: bytes) -> None:
    with daemon(status, said, ends=True) as at, pytest.raises(ImageError, match=r"status 3|unknown instruction") as told:
        await build(tmp_path, at)
    assert not isinstance(told.value, BuildOutage)


async def test_a_daemon_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(BuildOutage, match="does not answer"):
        await build(tmp_path, "tcp://127.0.0.1:9")
