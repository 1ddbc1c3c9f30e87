"""What the client makes of boxd's answers and of its silence, against a server that speaks boxd's protocol by hand."""

import asyncio
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.errors import BoxBroken, BoxLost, SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.sandbox import Contention, ExecRequest
from envfarm.sandboxes import boxd_client
from envfarm.sandboxes.boxd_client import RECONNECT_S, BoxAccess, BoxdBox
from envfarm.sandboxes.boxd_connection import Endpoint

RESULT = {"id": "x", "exit_code": 0, "signal": None, "timed_out": False, "stdout": "out", "stderr_b64": "/w==", "limit_hit": ""}
Answer = Callable[[str, dict[str, Any]], tuple[int, Any] | None]


@asynccontextmanager
async def boxd(place: Path, answer: Answer, *, alive: bool = True, disk_is_full: bool = False) -> AsyncIterator[tuple[BoxdBox, list[str]]]:
    """A box whose boxd says what `answer` says; None ends the connection without a word."""
    closed: list[str] = []
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())  # type: ignore[arg-type]
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            length = int(head.split("Content-Length: ")[1].split("\r\n")[0])
            body = json.loads(await reader.readexactly(length) or b"{}")
            said = answer(head.split("\r\n")[0].rsplit(" ", 1)[0], body)
            if said is None:
                break
            data = json.dumps(said[1]).encode()
            writer.write(f"HTTP/1.1 {said[0]} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        writer.close()

    async def remove() -> None:
        closed.append("removed")

    async with await asyncio.start_unix_server(serve, place / "s"):
        access = BoxAccess(
            Endpoint(path=str(place / "s")), "token", 3, alive=lambda: alive, remove=remove, disk_is_full=lambda: disk_is_full
        )
        box = BoxdBox(BoxId("b"), access)
        yield box, closed
        await box.close()
        await asyncio.gather(*served)


async def test_a_full_disk_of_the_host_is_no_fault_of_what_runs_in_the_box(tmp_path: Path) -> None:
    def answer(_line: str, _body: dict[str, Any]) -> tuple[int, Any]:
        return 507, {"error": "no_space", "message": "no space left on device"}

    async with boxd(tmp_path, answer, disk_is_full=True) as (box, _):
        with pytest.raises(BoxLost, match="no_space: no space left on device: the disk of its host is full"):
            await box.resume()


@contextmanager
def no_more_open_files() -> Iterator[None]:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (Path("/dev/null")).open() as next_one:
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one.fileno(), most[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, most)


async def test_a_farm_that_can_open_no_connection_is_not_the_boxs_fault(tmp_path: Path) -> None:
    async with boxd(tmp_path, lambda _line, _body: (200, RESULT)) as (box, _):
        with no_more_open_files(), pytest.raises(BoxLost, match="this machine cannot open a connection"):
            await box.exec(ExecRequest(argv=("true",)))
        assert (await box.exec(ExecRequest(argv=("true",)))).ok, "there is room again"


async def test_a_lost_connection_asks_for_the_same_id_again(tmp_path: Path) -> None:
    ids: list[str] = []

    def answer(_line: str, body: dict[str, Any]) -> tuple[int, Any] | None:
        ids.append(body["id"])
        return (200, RESULT) if len(ids) == 3 else None

    async with boxd(tmp_path, answer) as (box, _):
        result = await box.exec(ExecRequest(shell="echo out"))
    assert (result.stdout, result.stderr, result.ok) == (b"out", b"\xff", True)
    assert len(ids) == 3
    assert len(set(ids)) == 1


async def test_a_boxd_may_tell_where_the_time_went_and_an_older_one_does_not(tmp_path: Path) -> None:
    late = {**RESULT, "exit_code": None, "signal": 9, "timed_out": True}
    told = {**late, "contention": {"elapsed_s": 9.5, "waited_s": 8.5, "box_cpu_s": 0.5, "idle_s": 0.25}}
    async with boxd(tmp_path, lambda _, body: (200, told if body["argv"] == ["newer"] else late)) as (box, _):
        seen = (await box.exec(ExecRequest(argv=("newer",)))).contention
        assert seen == Contention(elapsed_s=9.5, waited_s=8.5, box_cpu_s=0.5, idle_s=0.25)
        assert (await box.exec(ExecRequest(argv=("older",)))).contention is None


async def test_silence_of_a_dead_box_is_a_loss(tmp_path: Path) -> None:
    async with boxd(tmp_path, lambda _l, _b: None, alive=False) as (box, _):
        with pytest.raises(BoxLost):
            await box.exec(ExecRequest(shell="echo"))


def turned_away(place: Path, *, patience_s: float, look: Callable[[], Awaitable[None]] | None = None, suspended: bool = False) -> BoxdBox:
    """A box that is said to live, and takes no connections."""

    async def remove() -> None:
        """Nothing is there."""

    access = BoxAccess(Endpoint(path=str(place / "s")), "token", 3, lambda: True, remove, look=look, patience_s=patience_s)
    access = access._replace(suspended=lambda: suspended)
    return BoxdBox(BoxId("b"), access)


async def test_a_box_that_turns_connections_away_is_broken_where_it_could_do_so_itself_and_else_lost(tmp_path: Path) -> None:
    with pytest.raises(BoxBroken):
        await turned_away(tmp_path, patience_s=0.0).health()
    with pytest.raises(BoxLost, match="the network to it is broken"):
        await turned_away(tmp_path, patience_s=0.01).health()


async def test_a_way_that_is_mended_in_time_costs_nothing(tmp_path: Path) -> None:
    box = turned_away(tmp_path, patience_s=60.0)
    asking = asyncio.create_task(box.health())
    await asyncio.sleep(sum(RECONNECT_S) + 0.1)
    async with boxd(tmp_path, lambda *_: (200, {"version": "1"})):
        assert await asking == {"version": "1"}
        box.disconnect()


async def in_vain(caplog: pytest.LogCaptureFixture) -> None:
    """Wait until a door's calls have failed some times in a row."""
    while "in vain" not in caplog.text:  # noqa: ASYNC110 - a log rings no bell
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("patience_s", "cut_off"), [(0.0, False), (60.0, True)])
async def test_a_door_is_cut_off_where_nothing_in_the_box_can_have_refused_the_farm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, patience_s: float, cut_off: object
) -> None:
    told: list[str] = []
    box = turned_away(tmp_path, patience_s=patience_s)
    async with boxd(tmp_path, lambda *_: (200, {"port": 1})):
        await box.open_door(asyncio.Protocol, cut_off=lambda _seconds, why: told.append(why))
        box.disconnect()
    await in_vain(caplog)
    assert bool(told) == cut_off
    await box.close()


async def test_a_door_is_cut_off_by_a_farm_without_room_and_not_by_a_boxd_that_ends_calls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = asyncio.Queue[str]()
    async with boxd(tmp_path, lambda line, _: None if line.endswith("wait_s=50") else (200, {"port": 1})) as (box, _):
        await box.open_door(asyncio.Protocol, cut_off=lambda _seconds, why: told.put_nowait(why))
        await in_vain(caplog)
        assert told.empty()
        with no_more_open_files():
            assert "this machine cannot open a connection" in await told.get()


async def test_where_nobody_can_say_whether_a_silent_box_lives_it_is_not_to_blame(tmp_path: Path) -> None:
    async def look() -> None:
        raise SandboxError("the API server is away")

    with pytest.raises(BoxLost, match="the API server is away"):
        await turned_away(tmp_path, patience_s=0.0, look=look).health()


async def test_a_box_that_was_suspended_from_outside_is_not_to_blame_for_its_silence(tmp_path: Path) -> None:
    with pytest.raises(BoxLost, match="suspended from outside"):
        await turned_away(tmp_path, patience_s=0.0, suspended=True).health()


def answered_meanwhile(listener: socket.socket, after_s: float | None) -> None:
    """A boxd in a thread of its own, which no pause of the loop stops; it answers after a while, or never."""
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        if after_s is not None:
            time.sleep(after_s)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        connection.recv(1)


@pytest.mark.parametrize(("after_s", "silent"), [(0.05, False), (None, True)], ids=["it answers meanwhile", "it never answers"])
async def test_a_pause_of_the_farms_own_process_is_no_silence_of_the_box(tmp_path: Path, after_s: float | None, silent: object) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        answering = asyncio.create_task(asyncio.to_thread(answered_meanwhile, listener, after_s))
        box = turned_away(tmp_path, patience_s=0.0)
        asyncio.get_running_loop().call_later(0.03, time.sleep, 1.0)
        try:
            if silent:
                with pytest.raises(BoxBroken, match="timed out"):
                    await box.health(timeout_s=0.1)
            else:
                assert await box.health(timeout_s=0.1) == {}
        finally:
            box.disconnect()
            await answering


@pytest.mark.parametrize("silences", [1, 2])
async def test_silence_over_a_network_is_asked_once_more_over_a_new_connection(monkeypatch: pytest.MonkeyPatch, silences: int) -> None:
    monkeypatch.setattr(boxd_client, "ANSWER_S", 0.1)
    ids: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        ids.append(json.loads(await reader.readexactly(int(head.split("Content-Length: ")[1].split("\r\n")[0])))["id"])
        if len(ids) > silences:
            data = json.dumps(RESULT).encode()
            writer.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await reader.read()  # until the client has had enough
        writer.close()

    async def remove() -> None:
        """Nothing is there."""

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        endpoint = Endpoint(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
        box = BoxdBox(BoxId("b"), BoxAccess(endpoint, "token", 3, lambda: True, remove))
        if silences == 1:
            assert (await box.exec(ExecRequest(shell="echo", timeout_s=0.1))).ok
        else:
            with pytest.raises(BoxBroken, match="timed out"):
                await box.exec(ExecRequest(shell="echo", timeout_s=0.1))
        await box.close()
    assert (len(ids), len(set(ids))) == (2, 1)


async def test_nonsense_of_a_living_box_is_its_own_fault(tmp_path: Path) -> None:
    nonsense: Any
    for nonsense in (
        [],
        "text",
        {"exit_code": "zero"},
        {"exit_code": 0, "stdout_b64": "no base64"},
        {"exit_code": 0, "limit_hit": "else"},
        {"exit_code": 0, "contention": {"elapsed_s": "long"}},
    ):
        async with boxd(tmp_path, lambda _l, _b, said=nonsense: (200, said)) as (box, _):  # type: ignore[misc]
            with pytest.raises(BoxBroken):
                await box.exec(ExecRequest(shell="echo"))


@pytest.mark.parametrize(
    ("status", "error"), [(400, SandboxError), (409, SandboxError), (413, BoxBroken), (503, BoxBroken), (507, BoxBroken)]
)
async def test_errors_are_the_requests_or_the_boxs(tmp_path: Path, status: int, error: type[Exception]) -> None:
    async with boxd(tmp_path, lambda _l, _b: (status, {"error": "why", "message": "because"})) as (box, _):
        with pytest.raises(error, match="why: because"):
            await box.exec(ExecRequest(shell="echo"))


async def test_a_request_is_one_program_or_one_line(tmp_path: Path) -> None:
    async with boxd(tmp_path, lambda _l, _b: (200, RESULT)) as (box, _):
        for request in (ExecRequest(), ExecRequest(argv=("a",), shell="b"), ExecRequest(shell="a", session="s", stdin=b"x")):
            with pytest.raises(SandboxError):
                await box.exec(request)


async def test_a_box_resumes_for_the_farm_alone(tmp_path: Path) -> None:
    lines: list[str] = []

    def answer(line: str, _body: dict[str, Any]) -> tuple[int, Any]:
        lines.append(line)
        return 200, {"killed": 2, "remaining": [{"pid": 7, "comm": "stuck"}], **RESULT}

    async with boxd(tmp_path, answer) as (box, _):
        report = await box.quiesce()
        await box.exec(ExecRequest(shell="echo"))
        await box.exec(ExecRequest(shell="echo", user="root"))
    assert (report.killed, report.remaining, report.ok) == (2, ("7 stuck",), False)
    assert lines == ["POST /v1/quiesce", "POST /v1/exec", "POST /v1/resume", "POST /v1/exec"]


async def test_a_session_is_made_once(tmp_path: Path) -> None:
    lines: list[str] = []

    def answer(line: str, _body: dict[str, Any]) -> tuple[int, Any]:
        lines.append(line)
        return 200, RESULT

    async with boxd(tmp_path, answer) as (box, _):
        await asyncio.gather(*(box.exec(ExecRequest(argv=("echo", "a b"), session="s/1")) for _ in range(3)))
    assert lines == ["POST /v1/shells", *["POST /v1/shells/s%2F1/run"] * 3]


async def test_closing_removes_once(tmp_path: Path) -> None:
    async with boxd(tmp_path, lambda _l, _b: (200, RESULT)) as (box, closed):
        await asyncio.gather(box.close(), box.close())
        await box.close()
        assert closed == ["removed"]
        with pytest.raises(BoxLost):
            await box.exec(ExecRequest(shell="echo"))


async def test_a_change_that_is_too_large_is_the_boxs_and_not_asked_for_again(tmp_path: Path) -> None:
    lines: list[str] = []

    def answer(line: str, _body: dict[str, Any]) -> tuple[int, Any]:
        lines.append(line)
        return (413, {"error": "too_large", "message": ""}) if len(lines) == 1 else (200, "x" * (9 << 20))

    async with boxd(tmp_path, answer) as (box, _):
        with pytest.raises(BoxBroken, match="too much was changed: more than 1000 bytes"):
            await box.diff(max_bytes=1000)
        with pytest.raises(BoxBroken, match="a reply of more than"):
            await box.diff(max_bytes=1000)
    assert lines == ["GET /v1/diff?max_bytes=1000"] * 2
