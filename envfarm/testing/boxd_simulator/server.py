"""The simulator's HTTP/1.1 server: one listener for all boxes, and a box at every loopback address.

`PUT /v1/config` at an address creates a box there, identified by the token that came with it. Two requests go to 127.0.0.1, where no box
is: `GET /ledger` returns the ledger of all boxes, and `POST /remove` does what a cluster does when it deletes a pod.
"""

import asyncio
import json
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

from envfarm.testing.boxd_simulator.box import SimulatedBox
from envfarm.testing.boxd_simulator.config import parse_config
from envfarm.testing.boxd_simulator.ledger import BoxPage
from envfarm.testing.boxd_simulator.script import Delays, Script, no_script
from envfarm.testing.boxd_simulator.tree import Refused

DESK = "127.0.0.1"
"""The address of the simulator itself."""
HEAD_BYTES = 16 << 10
BODY_BYTES = 1 << 30
WAITING = {"version": "simulated", "architecture": "amd64", "configured": False}
BACKLOG = 4096


class BoxdSimulator:
    """Boxes by address. Start it in a running event loop; `port` is then the port that it listens at."""

    def __init__(self, *, script: Script = no_script, delays: Delays | None = None, addresses_recur: bool = False) -> None:
        """With `addresses_recur`, a new token at an address means that its last box was removed. For callers that report no removals."""
        self.port = 0
        self.pages: list[BoxPage] = []
        """The ledger, in the order in which boxes were created."""
        self._script = script
        self._delays = delays or Delays()
        self._addresses_recur = addresses_recur
        self._boxes: dict[str, SimulatedBox] = {}
        self._wires: dict[str, set[_Wire]] = {}
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> Self:
        """Listen at every loopback address only: connections to other addresses are closed unread."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))  # noqa: S104 - see _Wire.connection_made
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(lambda: _Wire(self), sock=listener, backlog=BACKLOG)
        return self

    async def close(self) -> None:
        """End all boxes and connections."""
        for address in list(self._boxes):
            self.remove(address)
        for wire in [wire for wires in self._wires.values() for wire in wires]:
            wire.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def configure(self, address: str, token: str, config: object) -> None:
        """Create a box at an address. Raises `Refused` if there is one."""
        if address in self._boxes:
            raise Refused(409, "configured", "this boxd has its config, and takes no other")
        parsed = parse_config(config)
        page = BoxPage(address, began=time.time())
        self.pages.append(page)
        self._boxes[address] = SimulatedBox(token, parsed, page, script=self._script, delays=self._delays)

    def remove(self, address: str) -> bool:
        """Remove a box with its connections. Returns whether there was one."""
        box = self._boxes.pop(address, None)
        for wire in list(self._wires.get(address, ())):
            wire.close()
        if box is not None:
            box.end(time.time())
        return box is not None

    def answer(self, wire: "_Wire", request: "_Request") -> None:
        """Answer one request of a connection."""
        if wire.address == DESK:
            return self._at_the_desk(wire, request)
        box = self._boxes.get(wire.address)
        if box is not None and not box.is_token(request.token):
            if not self._addresses_recur:
                wire.close_after = True
                raise Refused(401, "unauthorized", "a valid bearer token is needed")
            box.end(time.time())
            del self._boxes[wire.address]
            box = None
        if box is None or request.target == "/v1/config":
            return self._before_its_config(wire, request)
        try:
            box.answer(request.method, request.target, request.epoch, request.body, wire.reply)
        except Refused as e:
            box.refuse(e, wire.reply)

    def _before_its_config(self, wire: "_Wire", request: "_Request") -> None:
        match request.method, request.target:
            case "PUT", "/v1/config":
                self.configure(wire.address, request.token, _json(request.body))
                wire.reply(200, {**WAITING, "configured": True})
            case "GET", "/v1/health" if request.token:
                wire.reply(200, WAITING)
            case "POST", "/v1/reach" if request.token:
                addresses = _json(request.body).get("addresses", ())
                wire.reply(200, {"addresses": [{"address": address, "reached": False, "error": "simulated"} for address in addresses]})
            case _:
                wire.close()  # there is no box

    def _at_the_desk(self, wire: "_Wire", request: "_Request") -> None:
        match request.method, request.target:
            case "GET", "/ledger":
                wire.reply(200, [json.dumps([page.as_json() for page in self.pages]).encode()])
            case "POST", "/remove":
                wire.reply(200, {"removed": sum([self.remove(address) for address in _json(request.body)])})
            case _:
                raise Refused(404, "no_route", f"{request.method} {request.target}")

    def opened(self, wire: "_Wire") -> None:
        """Register a new connection."""
        self._wires.setdefault(wire.address, set()).add(wire)

    def closed(self, wire: "_Wire") -> None:
        """Unregister a closed connection."""
        if wires := self._wires.get(wire.address):
            wires.discard(wire)
            if not wires:
                del self._wires[wire.address]


class _Request(NamedTuple):
    method: str
    target: str
    token: str
    epoch: int | None
    body: bytes


class _Head(NamedTuple):
    method: str
    target: str
    token: str
    epoch: int | None
    length: int


class _Wire(asyncio.Protocol):
    """One connection: requests and answers in turn."""

    def __init__(self, simulator: BoxdSimulator) -> None:
        self.address = ""
        self.close_after = False
        self._simulator = simulator
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream transport is needed")
        self._transport = transport
        self.address = transport.get_extra_info("sockname")[0]
        if self.address.startswith("127."):
            self._simulator.opened(self)
        else:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - part of the contract
        self._transport = None
        self._simulator.closed(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._answering:
            self._serve()

    def _serve(self) -> None:
        try:
            request = self._taken()
            if request is not None:
                self._answering = True
                self._simulator.answer(self, request)
        except Refused as e:
            self._answering = True
            self.reply(e.status, {"error": e.code, "message": e.message})

    def _taken(self) -> _Request | None:
        """The next request, once it is complete."""
        head = self._head or self._taken_head()
        if head is None or len(self._buffer) < head.length:
            self._head = head
            return None
        body = bytes(self._buffer[: head.length])
        del self._buffer[: head.length]
        self._head = None
        return _Request(*head[:4], body)

    def _taken_head(self) -> _Head | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 and len(self._buffer) <= HEAD_BYTES:
            return None
        self.close_after = True  # unless the head can be parsed
        if end < 0:
            raise Refused(431, "bad_request", "the header is too large")
        head = _parsed(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self.close_after = False
        return head

    def reply(self, status: int, said: Mapping[str, Any] | Sequence[bytes]) -> None:
        """Send an answer, and start with the next request."""
        if self._transport is None:
            return
        close = b"Connection: close\r\n" if self.close_after else b""
        if isinstance(said, Mapping):
            body = json.dumps(said, separators=(",", ":")).encode()
            head = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n" % (status, close, len(body))
            self._transport.write(head + body)
        else:
            body = b"".join(said)
            head = b"HTTP/1.1 %d -\r\nContent-Type: application/x-tar\r\n%sTransfer-Encoding: chunked\r\n\r\n" % (status, close)
            chunk = b"%x\r\n%s\r\n" % (len(body), body) if body else b""
            self._transport.write(head + chunk + b"0\r\n\r\n")
        if self.close_after:
            self._transport.close()
        self._answering = False
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._serve_next)

    def _serve_next(self) -> None:
        if not self._answering and self._buffer:
            self._serve()


def _parsed(head: bytes) -> _Head:
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[1].startswith("/"):
        raise Refused(400, "bad_request", "a malformed request line")
    if words[2] != "HTTP/1.1":
        raise Refused(505, "bad_request", "HTTP/1.1 only")
    token, epoch, length = "", None, 0
    seen: set[str] = set()
    for line in lines:
        name, colon, value = line.partition(":")
        name, value = name.lower(), value.strip()
        if not colon or name in seen:
            raise Refused(400, "bad_request", f"a malformed or repeated header: {name}")
        seen.add(name)
        if name == "authorization":
            token = value.removeprefix("Bearer ")
        elif name == "x-boxd-epoch":
            epoch = _whole(value, "X-Boxd-Epoch")
        elif name == "content-length":
            length = _whole(value, "Content-Length")
        elif name == "transfer-encoding":
            raise Refused(501, "bad_request", "bodies of simulated boxes have a Content-Length")
    if length > BODY_BYTES:
        raise Refused(413, "too_large", "the body is too large")
    return _Head(words[0], words[1], token, epoch, length)


def _whole(value: str, what: str) -> int:
    if not value.isdigit():
        raise Refused(400, "bad_request", f"{what}: a number")
    return int(value)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as e:
        raise Refused(400, "bad_request", f"no JSON: {e}") from e
