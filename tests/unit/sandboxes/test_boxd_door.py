"""A door whose farm stands still for a while."""

import asyncio
import socket
import threading
import time
from pathlib import Path

from envfarm.sandboxes.boxd_connection import Endpoint
from envfarm.sandboxes.boxd_door import AttendedDoor, Way


class Heard(asyncio.Protocol):
    def __init__(self, heard: "asyncio.Future[bytes]") -> None:
        self._heard = heard

    def data_received(self, data: bytes) -> None:
        self._heard.set_result(data)


def boxd(listener: socket.socket, over: threading.Event) -> None:
    """To the first call comes a program, soon; to the others none."""
    first, _ = listener.accept()
    with first:
        time.sleep(0.05)
        first.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\nGET /v1/models")
        over.wait(5)


async def test_a_program_that_came_while_the_farm_stood_still_is_served(tmp_path: Path) -> None:
    async def shut() -> None:
        """Nothing is there."""

    loop, over = asyncio.get_running_loop(), threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        answering = asyncio.create_task(asyncio.to_thread(boxd, listener, over))
        heard = loop.create_future()
        way = Way(Endpoint(path=str(tmp_path / "s")), b"Host: boxd\r\n")
        door = AttendedDoor("d", 1, way, lambda: Heard(heard), shut=shut, answer_s=0.1)
        loop.call_later(0.03, time.sleep, 1.0)
        try:
            async with asyncio.timeout(5):
                assert await heard == b"GET /v1/models"
        finally:
            over.set()
            await door.close()
            await answering
