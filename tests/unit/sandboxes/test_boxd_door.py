"""A door whose farm stands still, or cannot reach the box, for a while."""

import asyncio
import socket
import threading
import time
from pathlib import Path

from envfarm.sandboxes.boxd_connection import ConnectionLost, Endpoint
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


async def shut() -> None:
    """Nothing is there."""


def not_cut_off(_seconds: float, why: OSError) -> None:
    raise AssertionError(why)


async def test_a_program_that_came_while_the_farm_stood_still_is_served(tmp_path: Path) -> None:
    loop, over = asyncio.get_running_loop(), threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        answering = asyncio.create_task(asyncio.to_thread(boxd, listener, over))
        heard = loop.create_future()
        way = Way(Endpoint(path=str(tmp_path / "s")), b"Host: boxd\r\n", answer_s=0.1)
        door = AttendedDoor("d", 1, way, lambda: Heard(heard), shut=shut, cut_off=not_cut_off)
        loop.call_later(0.03, time.sleep, 1.0)
        try:
            async with asyncio.timeout(5):
                assert await heard == b"GET /v1/models"
        finally:
            over.set()
            await door.close()
            await answering


async def test_a_door_is_attended_again_however_long_its_box_could_not_be_reached(tmp_path: Path) -> None:
    told: list[tuple[float, OSError]] = []
    long_since, heard = asyncio.Event(), asyncio.get_running_loop().create_future()

    def cut_off(seconds: float, why: OSError) -> None:
        told.append((seconds, why))
        if len(told) == 20:
            long_since.set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        programs = 0 if heard.done() else 1
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\nhello" if programs else b"HTTP/1.1 404 Not Found\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    place = str(tmp_path / "s")
    way = Way(Endpoint(path=place), b"", again_s=(0.001, 0.002))
    door = AttendedDoor("d", 1, way, lambda: Heard(heard), shut=shut, cut_off=cut_off)
    await long_since.wait()
    assert all(isinstance(why, ConnectionLost) and why.refused for _, why in told)
    seconds = [s for s, _ in told]
    assert seconds == sorted(seconds), "all the time by now, each time"
    async with await asyncio.start_unix_server(answer, place):
        assert await heard == b"hello"
        await door.close()


async def test_a_door_that_one_call_waits_at_is_not_cut_off(tmp_path: Path) -> None:
    told: list[tuple[float, OSError]] = []
    calls, often, over = 0, asyncio.Event(), asyncio.Event()
    answering: set[asyncio.Task[None] | None] = set()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        answering.add(asyncio.current_task())
        if calls == 1:
            await over.wait()
        elif calls > 10:
            often.set()
        writer.close()

    async with await asyncio.start_unix_server(answer, place := str(tmp_path / "s")):
        way = Way(Endpoint(path=place), b"", again_s=(0.001,))
        door = AttendedDoor("d", 1, way, asyncio.Protocol, shut=shut, cut_off=lambda *one: told.append(one))
        await often.wait()
        await door.close()
        over.set()
        await asyncio.gather(*filter(None, answering))
    assert told == []
