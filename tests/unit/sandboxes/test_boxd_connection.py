"""The client's HTTP: what boxd sends is read whole however it is cut, and nothing else is taken."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.sandboxes.boxd_connection import BodyReader, BoxdConnections, ConnectionLost, Endpoint, Reply, ReplyTooLarge

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{...}"
CHUNKED = b"HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"


def feed(data: bytes, cuts: list[int], max_bytes: int = 1000) -> Reply | None:
    reader, reply, start = BodyReader(max_bytes), None, 0
    for cut in [*sorted(cuts), len(data)]:
        if cut > start:
            assert reply is None
            reply = reader.feed(data[start:cut])
            start = cut
    return reply


@given(st.lists(st.integers(min_value=1, max_value=len(CHUNKED) - 1)))
def test_replies_are_read_however_they_are_cut(cuts: list[int]) -> None:
    assert feed(PLAIN, [cut for cut in cuts if cut < len(PLAIN)]) == Reply(200, b"{...}")
    assert feed(CHUNKED, cuts) == Reply(409, b"abc0123456789")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n\r\n",
        b"x" * 20_000,
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ConnectionLost):
        feed(data, [])


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n",
    ],
)
def test_a_reply_that_is_too_large_is_no_lost_connection(data: bytes) -> None:
    with pytest.raises(ReplyTooLarge):
        feed(data, [])


class Peer:
    """A server that answers as it is told, once per request, and counts its connections."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.connections = 0
        self.heads: list[bytes] = []
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self.answers:
            try:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                break
            answer = self.answers.pop(0)
            writer.write(answer)
            if answer != PLAIN:
                break
        writer.close()
        self.ended.set()


async def test_connections_are_kept_and_carry_the_token(tmp_path: Path) -> None:
    peer = Peer(PLAIN, PLAIN, PLAIN)
    async with await asyncio.start_unix_server(peer.serve, tmp_path / "s"):
        connections = BoxdConnections(Endpoint(path=str(tmp_path / "s")), token="t0ken", epoch=7)
        for _ in range(3):
            assert await connections.request("GET", "/v1/health", timeout_s=1) == Reply(200, b"{...}")
        connections.close()
        await peer.ended.wait()
    assert peer.connections == 1
    assert all(b"Authorization: Bearer t0ken\r\n" in head and b"X-Boxd-Epoch: 7\r\n" in head for head in peer.heads)


async def test_a_torn_reply_and_a_silent_peer_are_told_apart(tmp_path: Path) -> None:
    peer = Peer(PLAIN[:-2], b"")
    server = await asyncio.start_unix_server(peer.serve, tmp_path / "s")
    connections = BoxdConnections(Endpoint(path=str(tmp_path / "s")), token="t", epoch=0)
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            await connections.request("GET", "/", timeout_s=1)
    server.close()
    await server.wait_closed()
    with pytest.raises(ConnectionLost):
        await connections.request("GET", "/", timeout_s=1)

    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_unix_server(say_nothing, tmp_path / "silent"):
        with pytest.raises(TimeoutError):
            await BoxdConnections(Endpoint(path=str(tmp_path / "silent")), token="t", epoch=0).request("GET", "/", timeout_s=0.05)
        await ended.wait()


async def test_a_large_body_goes_in_pieces_and_arrives_whole(tmp_path: Path) -> None:
    pieces = [b"a" * 3_000_000, b"", b"bc", b"d" * 100_000]
    got = bytearray()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        got.extend(await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])))
        writer.write(PLAIN)
        writer.close()
        ended.set()

    async with await asyncio.start_unix_server(serve, tmp_path / "s"):
        connections = BoxdConnections(Endpoint(path=str(tmp_path / "s")), token="t", epoch=0)
        assert await connections.request("POST", "/", pieces, timeout_s=1) == Reply(200, b"{...}")
        connections.close()
        await ended.wait()
    assert bytes(got) == b"".join(pieces)


async def test_an_answer_that_comes_before_the_body_was_sent_is_taken_and_ends_the_connection(tmp_path: Path) -> None:
    connected = 0
    refused = asyncio.Event()
    ended = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(PLAIN)
        await refused.wait()
        writer.close()
        ended.set()

    async with await asyncio.start_unix_server(refuse, tmp_path / "s"):
        connections = BoxdConnections(Endpoint(path=str(tmp_path / "s")), token="t", epoch=0)
        for _ in range(2):
            refused.clear()
            ended.clear()
            assert await connections.request("POST", "/", [bytes(32 << 20)], timeout_s=1) == Reply(200, b"{...}")
            refused.set()
            await ended.wait()
    assert connected == 2
