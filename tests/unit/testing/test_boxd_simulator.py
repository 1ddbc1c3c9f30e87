"""What the simulator refuses, what it writes down, and how its few words run."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from envfarm.core.errors import BoxLost, SandboxError
from envfarm.core.ids import ExecId
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.sandboxes.boxd_connection import BoxdConnections, Endpoint
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.boxd_simulator.ledger import BoxPage, broken_promises
from envfarm.testing.boxd_simulator.provider import SimulatedProvider, deliver
from envfarm.testing.boxd_simulator.script import Asked, Delays, Played
from envfarm.testing.boxd_simulator.server import BoxdSimulator
from envfarm.testing.boxd_simulator.tree import Tree
from envfarm.testing.boxd_simulator.words import Shell, run_line
from envfarm.testing.factories import make_environment


def script(asked: Asked, tree: Tree) -> Played | None:
    if not asked.line.startswith("play "):
        return None
    tree.write("/testbed/played", asked.line.encode())
    return Played(3, b"played\n", b"\xff", seconds=0.01)


@pytest.fixture
async def simulator() -> AsyncIterator[BoxdSimulator]:
    simulator = await BoxdSimulator(script=script).start()
    yield simulator
    await simulator.close()


@pytest.fixture
async def provider(simulator: BoxdSimulator) -> AsyncIterator[SimulatedProvider]:
    provider = SimulatedProvider(simulator.port, MemoryBlobs())
    yield provider
    await provider.aclose()


def spec(epoch: int = 0) -> SandboxSpec:
    return SandboxSpec(environment=make_environment(), epoch=epoch)


async def test_a_script_plays_runs_and_the_rest_is_words(provider: SimulatedProvider) -> None:
    box = await provider.create(spec())
    result = await box.exec(ExecRequest(shell="play it"))
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"played\n", b"\xff")
    assert result.duration_s >= 0.01
    assert (await box.exec(ExecRequest(shell="cat played"))).stdout == b"play it"


async def test_the_ledger_tells_what_was_asked_and_what_ran(provider: SimulatedProvider, simulator: BoxdSimulator) -> None:
    box = await provider.create(spec(epoch=3))
    for _ in range(2):
        await box.exec(ExecRequest(shell="true", exec_id=ExecId("same")))
    with pytest.raises(BoxLost):
        await box.with_epoch(2).exec(ExecRequest(shell="true", exec_id=ExecId("late")))
    await box.with_epoch(4).exec(ExecRequest(shell="true", exec_id=ExecId("other")))
    await box.close()
    desk = BoxdConnections(Endpoint(host="127.0.0.1", port=simulator.port), token="-", epoch=0)
    (page,) = json.loads((await desk.request("GET", "/ledger", timeout_s=5)).body)
    desk.close()
    assert (page["asked"], page["ran"]) == ({"same": 2, "other": 1}, {"same": 1, "other": 1})
    assert (page["epochs"], page["refused"], page["ended"] >= page["began"]) == ([3, 4], {"fenced": 1}, True)


async def test_a_box_is_configured_once(provider: SimulatedProvider, simulator: BoxdSimulator) -> None:
    box = await provider.create(spec())
    token = box._access.token
    with pytest.raises(SandboxError, match="takes no other"):
        await deliver(Endpoint(host=box.box_id, port=simulator.port), token, {})
    with pytest.raises(SandboxError, match="unauthorized"):
        await deliver(Endpoint(host=box.box_id, port=simulator.port), "another", {})
    with pytest.raises(SandboxError, match="no_such_field"):
        await deliver(Endpoint(host="127.64.9.9", port=simulator.port), token, {"no_such_field": 1})
    assert [page.address for page in simulator.pages] == [box.box_id]


async def test_where_addresses_recur_another_token_is_another_box() -> None:
    simulator = await BoxdSimulator(addresses_recur=True).start()
    provider = SimulatedProvider(simulator.port, MemoryBlobs())
    box = await provider.create(spec())
    await box.exec(ExecRequest(shell="echo x >mine"))
    await deliver(Endpoint(host=box.box_id, port=simulator.port), "the-token-of-the-next-pod", {})
    assert [page.ended is None for page in simulator.pages] == [False, True]
    await provider.aclose()
    await simulator.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /v1/health HTTP/1.1\r\nAuthorization: Bearer wrong\r\n\r\n", b"401"),
        (b"GET /v1/health HTTP/1.0\r\n\r\n", b"505"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /v1/health HTTP/1.1\r\nA: 1\r\nA: 2\r\n\r\n", b"400"),
        (b"POST /v1/exec HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"501"),
        (b"x" * 20_000, b"431"),
    ],
)
async def test_what_is_no_request_of_ours_ends_the_connection(
    sent: bytes, status: bytes, provider: SimulatedProvider, simulator: BoxdSimulator
) -> None:
    box = await provider.create(spec())
    reader, writer = await asyncio.open_connection(box.box_id, simulator.port)
    writer.write(sent)
    assert (await reader.read()).startswith(b"HTTP/1.1 " + status)
    writer.close()


async def test_where_no_box_is_nobody_answers(simulator: BoxdSimulator) -> None:
    reader, writer = await asyncio.open_connection("127.64.7.7", simulator.port)
    writer.write(b"GET /v1/health HTTP/1.1\r\n\r\n")
    with suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


async def test_output_can_be_followed_while_a_command_runs(provider: SimulatedProvider, simulator: BoxdSimulator) -> None:
    box = await provider.create(spec())
    running = asyncio.ensure_future(box.exec(ExecRequest(shell="sleep 0.1; echo one; sleep 0.1; echo two", exec_id=ExecId("x"))))
    await asyncio.sleep(0.02)
    wire = BoxdConnections(Endpoint(host=box.box_id, port=simulator.port), token=box._access.token, epoch=0)
    seen, at = b"", 0
    while True:
        said = json.loads((await wire.request("GET", f"/v1/exec/x?stdout_offset={at}&wait_s=5", timeout_s=10)).body)
        seen, at = seen + said["stdout"].encode(), said["stdout_next"]
        if not said["running"] and at == said["stdout_bytes"]:
            break
    wire.close()
    assert seen == (await running).stdout == b"one\ntwo\n"


def test_delays_are_a_matter_of_the_seed_and_the_name() -> None:
    delays = Delays(seed=1, median_s=1.0)
    drawn = [delays.draw(f"run-{n}") for n in range(1000)]
    assert drawn == [Delays(seed=1, median_s=1.0).draw(f"run-{n}") for n in range(1000)]
    assert 0.9 < sorted(drawn)[500] < 1.1
    assert max(drawn) <= delays.longest_s
    assert Delays(seed=2, median_s=1.0).draw("run-1") != drawn[1]


@pytest.mark.parametrize(
    ("line", "wanted", "status"),
    [
        ("echo 'a b' \"$WORD\" \\$WORD $WORD'$WORD'", "a b set $WORD set$WORD\n", 0),
        ("false && echo no || echo yes", "yes\n", 0),
        ("echo one >f; echo two >>f; cat f", "one\ntwo\n", 0),
        ("X=1; echo $X$X ${X}0", "11 10\n", 0),
        ("cat none 2>/dev/null", "", 1),
        ("if true; then echo no; fi", "", 127),
        ("echo $(id)", "", 2),
        ("echo 'open", "", 2),
        ("echo one\necho two", "one\ntwo\n", 0),
    ],
)
def test_the_few_words(line: str, wanted: str, status: int) -> None:
    out = bytearray()
    steps = run_line(Shell(Tree(), variables={"WORD": "set"}), line, out.extend, lambda _: None)
    with pytest.raises(StopIteration) as ended:
        next(steps)
    assert (out.decode(), ended.value.value) == (wanted, status)


def test_a_broken_promise_is_seen_in_the_ledger() -> None:
    good = BoxPage("127.64.0.1", 0.0, epochs=[1, 2], ran={"a": 1})
    assert list(broken_promises([good])) == []
    bad = BoxPage("127.64.0.2", 0.0, epochs=[2, 1], ran={"a": 2})
    assert len(list(broken_promises([good, bad]))) == 2
