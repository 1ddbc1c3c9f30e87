"""A real HTTP server on loopback that answers chat completions from a script, including an engine's failures.

For tests of chat policies and of what uses them. Each request gets the next line of the script; the last one is repeated.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """The reply to one request."""

    body: Any = None
    """JSON, or bytes that are sent unchanged."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hang_up: bool = False
    """Close the connection without an answer."""
    endless: bytes = b""
    """Sent repeatedly instead of a body, each after `delay_s`, until the client closes."""


@dataclass
class ChatServer:
    """A running server: its address, and the requests that it received."""

    base_url: str
    script: list[Line]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def next_line(self) -> Line:
        """The script's next line."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@asynccontextmanager
async def chat_server(script: Sequence[Line]) -> AsyncIterator[ChatServer]:
    """Serve the script on a free port of loopback until the block ends."""
    running = ChatServer("", list(script))
    open_connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            open_connections.add(task)
            task.add_done_callback(open_connections.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await _answer(running, reader, writer):
                pass
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    running.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield running
    finally:
        server.close()
        for task in tuple(open_connections):
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)
        await server.wait_closed()


def completion(message: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """A completion with one choice; `choice` adds keys to the choice, other fields to the body."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop", **fields.pop("choice", {})}
    return {"id": "chatcmpl-1", "object": "chat.completion", "model": "made-up", "choices": [choice], **fields}


def tool_call(name: str, arguments: Mapping[str, Any] | str, **fields: Any) -> dict[str, Any]:
    """A completion that calls one tool."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": fields.pop("call_id", "call_a"), "type": "function", "function": {"name": name, "arguments": text}}
    return completion({"content": fields.pop("content", None), "tool_calls": [call]}, **fields)


async def _answer(running: ChatServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Handle one request. Returns whether the connection stays open."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {k.strip().lower(): v.strip() for k, _, v in (row.partition(":") for row in head[1:] if row)}
    content = await reader.readexactly(int(headers.get("content-length", "0")))
    running.headers.append(headers)
    running.requests.append(json.loads(content))
    line = running.next_line()
    if line.delay_s and not line.endless:
        await asyncio.sleep(line.delay_s)
    if line.hang_up:
        return False
    if line.endless:
        writer.write(b"HTTP/1.1 200 Scripted\r\ncontent-type: application/json\r\n\r\n")
        while True:
            writer.write(line.endless)
            await writer.drain()
            await asyncio.sleep(line.delay_s)
    body = line.body if isinstance(line.body, bytes) else json.dumps(line.body).encode()
    rows = [
        f"HTTP/1.1 {line.status} Scripted",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *(f"{k}: {v}" for k, v in line.headers.items()),
    ]
    writer.write("\r\n".join(rows).encode() + b"\r\n\r\n" + body)
    await writer.drain()
    return True
