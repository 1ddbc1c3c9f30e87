"""The socket that servers of the farm listen on."""

import asyncio
import socket

import pytest

from envfarm.api.listening import listen


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_answers_are_sent_without_waiting_for_acknowledgements(host: str) -> None:
    """Asks the kernel what asyncio set on a connection that was accepted."""
    seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    try:
        listener = listen(host, 0)
    except OSError:
        pytest.skip(f"{host} is no address of this machine")
    async with await asyncio.start_server(accepted, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        assert await seen
        writer.close()


def test_a_port_that_is_taken_is_an_error_and_no_socket_is_left() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])
