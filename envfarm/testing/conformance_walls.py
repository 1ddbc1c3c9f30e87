"""Conformance: limits of memory and processes, the closed network, isolation between boxes."""

import asyncio
import uuid

from envfarm.core.protocols import Doors, SandboxProvider
from envfarm.core.sandbox import ExecRequest
from envfarm.testing.conformance_check import ConformanceFailure, SpecFactory, box_of, check, expect, is_usable, said, same, shell

SECONDS_OF_ATTACK = 20.0


async def memory_is_limited(provider: SandboxProvider, factory: SpecFactory) -> None:
    """What exceeds the box's memory is killed and reported; the box stays usable."""
    async with box_of(provider, factory.spec().model_copy(update={"memory_mib": 256})) as box:
        result = await shell(box, "head -c 2000000000 /dev/zero | tail | wc -c", timeout_s=SECONDS_OF_ATTACK)
        expect(result.max_rss_bytes < 900 << 20, f"{result.max_rss_bytes} bytes in a box of 256 MiB")
        expect(b"2000000000" not in result.stdout, "2 GB were held in a box of 256 MiB")
        await is_usable(box)
        stats = await box.stats()
        expect(sum(stats.limit_hits.values()) + stats.oom_kills > 0, f"nothing tells of the memory limit: {stats}")


async def processes_are_limited(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A fork bomb is contained, and the box stays usable."""
    async with box_of(provider, factory.spec().model_copy(update={"pids": 64})) as box:
        for session in ("", "s"):
            bomb = "f() { f | f & }; f; sleep 2; echo end"
            result = await shell(box, bomb, timeout_s=SECONDS_OF_ATTACK, session=session)
            expect(result.duration_s < SECONDS_OF_ATTACK * 1.5, "a fork bomb held the box")
        report = await box.quiesce()
        expect(report.ok, f"a fork bomb is left: {report.remaining}")
        root = await box.exec(ExecRequest(shell="echo up", user="root"))
        same(root.stdout, b"up\n", "a command after a fork bomb")
        await is_usable(box)


async def floods_are_survived(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Endless output is cut and does not fill the farm's memory."""
    async with box_of(provider, factory.spec()) as box:
        result = await box.exec(ExecRequest(shell="yes & yes >&2", timeout_s=2, output_bytes=100_000))
        expect(result.truncated and len(result.stdout) <= 101_000 and len(result.stderr) <= 101_000, "endless output is not cut")
        await is_usable(box)


async def the_network_is_closed(provider: SandboxProvider, factory: SpecFactory) -> None:
    """No name resolution, no host, no metadata service, no internet."""
    connected = asyncio.Event()

    def note(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        writer.close()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with box_of(provider, factory.spec()) as box:
            for address in (f"127.0.0.1/{port}", f"localhost/{port}", "169.254.169.254/80", "1.1.1.1/53", "example.com/80"):
                result = await box.exec(ExecRequest(argv=("bash", "-c", f"exec 3<>/dev/tcp/{address}"), timeout_s=5))
                expect(not result.ok, f"{address} was reached")
            expect(not (await shell(box, "getent hosts example.com", timeout_s=10)).ok, "a name was looked up")
            expect(not connected.is_set(), "the host's loopback was reached")
    finally:
        server.close()
        await server.wait_closed()


async def there_is_no_network_device(provider: SandboxProvider, factory: SpecFactory) -> None:
    """There is only a loopback device of the box's own, and no route."""
    async with box_of(provider, factory.spec()) as box:
        same(await said(box, "tail -n +2 /proc/net/route 2>/dev/null || true"), "", "routes")
        devices = await said(box, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '")
        expect(set(devices.split()) <= {"lo"}, f"network devices: {devices}")


class _Shout(asyncio.Protocol):
    """Answers in capitals."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.write(data.upper())


async def a_door_leads_to_the_farm(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Programs of a closed box reach what the farm serves at its door, even beside silent connections; after quiesce they do not."""
    async with box_of(provider, factory.spec()) as box:
        if not isinstance(box, Doors):
            raise ConformanceFailure("the box has no doors")
        door = await box.open_door(_Shout)
        talk = f"exec 3<>/dev/tcp/127.0.0.1/{door.port}; echo hello >&3; head -n1 <&3"
        silent = f"for i in 1 2 3 4 5; do sleep 60 3<>/dev/tcp/127.0.0.1/{door.port} >/dev/null 2>&1 & done; "
        for script in (talk, talk, silent + talk):
            heard = await box.exec(ExecRequest(argv=("bash", "-c", script), timeout_s=20))
            same(heard.stdout, b"HELLO\n", f"the answer through the door ({heard.stderr!r})")
        await box.quiesce()
        await box.resume()
        after = await box.exec(ExecRequest(argv=("bash", "-c", talk), timeout_s=20))
        expect(not after.ok or not after.stdout, "a door outlived quiesce")
        await door.close()


async def boxes_do_not_see_each_other(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Files, processes and shared memory of another box are invisible."""
    mark = f"secret-{uuid.uuid4().hex}"
    async with box_of(provider, factory.spec()) as one, box_of(provider, factory.spec()) as two:
        await said(one, f"echo {mark} | tee /tmp/{mark} /dev/shm/{mark} /home/agent/{mark} ./{mark} >/dev/null")
        await one.exec(
            ExecRequest(argv=("sh", "-c", f"exec -a {mark} sleep 500 >/dev/null 2>&1 & sh -c 'sleep 500; : {mark}' >/dev/null 2>&1 &"))
        )
        seen = await shell(two, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -R /tmp /dev/shm /home . /run /var 2>/dev/null")
        expect(mark not in seen.text, "a box sees another")
        same((await shell(one, "ls /tmp")).stdout.decode().count(mark), 1, "a box sees its own")


async def the_agent_is_not_privileged(provider: SandboxProvider, factory: SpecFactory) -> None:
    """The agent is not root, and has no capabilities and no way to get them."""
    async with box_of(provider, factory.spec()) as box:
        expect(await said(box, "id -u") != "0", "the agent is root")
        status = await said(box, "cat /proc/self/status")
        fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        for name in ("CapEff", "CapPrm", "CapInh"):
            same(int(fields[name], 16), 0, name)
        # Some sandbox kernels do not report these two.
        same(int(fields.get("CapAmb", "0"), 16), 0, "CapAmb")
        same(fields.get("NoNewPrivs", "1").strip(), "1", "no_new_privs")
        # Not its environ: some sandbox kernels show everyone's, and boxd's has no secrets.
        expect(not (await shell(box, "kill -9 1; kill -STOP 1; cat /proc/1/mem")).ok, "boxd is within reach")
        same(await said(box, "echo alive"), "alive", "boxd after an attempt to kill it")


CHECKS = (
    check(memory_is_limited, "programs", "limits"),
    check(processes_are_limited, "programs", "limits"),
    check(floods_are_survived, "programs"),
    check(the_network_is_closed, "programs", "network"),
    check(there_is_no_network_device, "programs", "no device"),
    check(a_door_leads_to_the_farm, "programs", "network"),
    check(boxes_do_not_see_each_other, "programs", "walls"),
    check(the_agent_is_not_privileged, "programs", "walls"),
)
