"""A model behind chat completions that says what a test has it say, streamed or whole, and lets the test do something first."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Say = Callable[[list[dict[str, Any]]], str]
"""The conversation so far, to the next reply."""


@contextmanager
def scripted_model(say: Say) -> Iterator[str]:
    """Its base URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = {"role": "assistant", "content": say(asked["messages"])}
            head = {"id": "1", "created": 0, "model": asked["model"]}
            if asked.get("stream"):
                chunks = [{"index": 0, "delta": said, "finish_reason": None}, {"index": 0, "delta": {}, "finish_reason": "stop"}]
                told = [json.dumps(head | {"object": "chat.completion.chunk", "choices": [chunk]}) for chunk in chunks]
                self._send("text/event-stream", "".join(f"data: {line}\n\n" for line in [*told, "[DONE]"]))
            else:
                choice = {"index": 0, "message": said, "finish_reason": "stop"}
                self._send("application/json", json.dumps(head | {"object": "chat.completion", "choices": [choice]}))

        def _send(self, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
