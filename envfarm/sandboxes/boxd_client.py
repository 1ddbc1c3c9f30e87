"""A box, accessed through its boxd: the verbs of `envfarm.core.protocols.Box` over one endpoint. Every provider returns it.

It decides what silence means. If boxd does not answer and the provider says that the box is gone: `BoxLost`. If the provider says that it
is alive: `BoxBroken`, blamed on what runs inside. It must not start or remove boxes: closing calls the provider.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import shlex
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from envfarm.core.change import CHANGE_BYTES, Change
from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError, SandboxError
from envfarm.core.ids import BoxId, ExecId
from envfarm.core.protocols import ARCHIVE_BYTES
from envfarm.core.sandbox import BoxStats, Contention, ExecRequest, ExecResult, MemoryKills, QuiesceReport
from envfarm.sandboxes import boxd_change
from envfarm.sandboxes.boxd_connection import BoxdConnections, ConnectionLost, Endpoint, NoRoom, Reply, ReplyTooLarge
from envfarm.sandboxes.boxd_door import AttendedDoor, Way

ANSWER_S = 30.0
"""How long boxd may take on top of the time that the request itself may take."""
TRANSFER_S = 600.0
"""For transferring archives."""
ARCHIVE_OVERHEAD = 8 << 20
"""How much larger an archive may be than its contents: names, modes, padding."""
RECONNECT_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Waits before the tries of a request whose connection was lost."""
TURNED_AWAY_S = 2.0
"""Between further tries if a living box refuses connections."""

BOX_FAULTS = frozenset({413, 500, 503, 507})
"""Statuses about the box's state, not the request: too much to carry, no memory, no process, no disk.

An agent can cause them.
"""


class BoxAccess(NamedTuple):
    """A provider's access to a box, for the client."""

    endpoint: Endpoint
    token: str
    epoch: int
    alive: Callable[[], bool]
    """Whether the box is alive, by evidence from outside it. Called when boxd does not answer."""
    remove: Callable[[], Awaitable[None]]
    """Removes the whole box. Called once."""
    agent: tuple[int, int] | None = None
    """The uid and gid that own files put into the box, if boxd and the agent are different users."""
    output_bytes: int = 1 << 20
    """The limit for each output stream of one command, unless the request sets one."""
    pids: int = 0
    """The most processes of a command, enforced by the kernel if boxd can request it; 0 for no limit."""
    suspended: Callable[[], bool] = bool
    """Whether something outside the box has stopped or frozen boxd, by evidence from outside it. Called when boxd does not answer."""
    memory_kills: Callable[[], MemoryKills] = MemoryKills
    """Reads the kernel's counts of out-of-memory kills, evidence from outside the box."""
    disk_is_full: Callable[[], bool] = bool
    """Whether the host's file system that the box shares is full, seen from outside. Called when boxd finds no space."""
    ground_lost: Callable[[], str] = str
    """Which directory that the box stands on was removed or replaced since it started; empty for none. Called after each answer."""
    gone: "asyncio.Future[EnvfarmError] | None" = None
    """Done as soon as the provider learns that the box has ended; its result is the error with the reason. Requests in flight are cut."""
    look: Callable[[], Awaitable[None]] | None = None
    """Finds out whether the box has ended, and if so sets `gone`. Awaited when boxd does not answer."""
    patience_s: float = 0.0
    """How long a living box may refuse connections before it counts as lost. 0 if code inside could cause the refusals; elsewhere its boxd
    listens as long as it lives, so the network to it must be broken."""


class BoxdBox:
    """One box. To be used in one event loop only."""

    def __init__(self, box_id: BoxId, access: BoxAccess) -> None:
        self._box_id = box_id
        self._access = access
        self._connections = BoxdConnections(access.endpoint, token=access.token, epoch=access.epoch)
        self._sessions: dict[str, asyncio.Lock] = {}
        self._made_sessions: set[str] = set()
        self._quiesced = False
        self.fenced = False
        """Whether it said that the holder of a higher epoch has it."""
        self._closing: asyncio.Task[None] | None = None
        if access.gone is not None:
            access.gone.add_done_callback(lambda _: self._connections.cut())
        self._doors: list[AttendedDoor] = []

    @property
    def box_id(self) -> BoxId:
        """The provider's id of the box."""
        return self._box_id

    def with_epoch(self, epoch: int) -> "BoxdBox":
        """The same box, for the holder of another lease's epoch. Closing either closes the box."""
        return BoxdBox(self._box_id, self._access._replace(epoch=epoch))

    def disconnect(self) -> None:
        """Close the connections. The box lives on, for another client."""
        self._connections.cut()

    async def health(self, *, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        """The status of boxd: `version`, `epoch`, `uptime_s`. For providers that wait until a box is up."""
        return await self._json("GET", "/v1/health", timeout_s=timeout_s)

    async def answers(self, *, timeout_s: float) -> bool:
        """Whether boxd says anything, over a new connection. Blames nobody, and asks nobody else. Raises `NoRoom`."""
        self._connections.renew()
        try:
            await self._connections.request("GET", "/v1/health", timeout_s=timeout_s)
        except (ConnectionLost, ReplyTooLarge, TimeoutError):
            return False
        return True

    async def has_begun(self, commands: Sequence[ExecId]) -> bool:
        """Whether one of these commands was ever begun in it. As every request with an epoch, it fences holders of lower ones."""
        for command in commands:
            reply = await self._ask("GET", f"/v1/exec/{quote(command)}", b"", timeout_s=ANSWER_S, max_bytes=ARCHIVE_BYTES)
            if reply.status != HTTPStatus.NOT_FOUND:
                return reply.status == HTTPStatus.GONE or bool(self._checked(reply))
        return False

    async def configure(self, config: dict[str, Any]) -> None:
        """Send a waiting boxd its config. If it has one already it came from here, as nobody else knows the token."""
        body = json.dumps(config, separators=(",", ":")).encode()
        reply = await self._ask("PUT", "/v1/config", body, timeout_s=ANSWER_S, max_bytes=1 << 20)
        if not (reply.status == HTTPStatus.CONFLICT and _problem(reply).get("error") == "configured"):
            self._checked(reply)

    async def reaches(self, addresses: Sequence[str], *, timeout_ms: int) -> tuple[str, ...]:
        """Which of these (at least one) `IP:PORT` accept a connection from the box. Raises `BoxBroken` unless it tells of each."""
        said = await self._json("POST", "/v1/reach", {"addresses": list(addresses), "timeout_ms": timeout_ms})
        told = {str(each.get("address")): bool(each.get("reached")) for each in said.get("addresses") or ()}
        if not addresses or told.keys() != set(addresses):
            raise BoxBroken(f"boxd of {self._box_id} was to try {len(addresses)} addresses, and tells of others: {', '.join(told)}")
        return tuple(address for address, reached in told.items() if reached)

    async def exec(self, request: ExecRequest) -> ExecResult:
        """See `Sandbox.exec`. Every command has an id, given or made here, so a repeated request never runs it twice.

        If the call is cancelled, the command still runs until its own timeout.
        """
        if bool(request.argv) == bool(request.shell):
            raise SandboxError("exactly one of argv and shell is required", hint="give argv for a program, or shell for a command line")
        if self._quiesced and request.user == "root":
            await self.resume()
        body: dict[str, Any] = {"id": request.exec_id or uuid.uuid4().hex, "timeout_s": request.timeout_s}
        body["output_bytes"] = self._access.output_bytes if request.output_bytes is None else request.output_bytes
        if request.cores:
            body["cores"] = request.cores
        if request.session:
            return await self._exec_in_session(request, body)
        if request.argv:
            body["argv"] = request.argv
        else:
            body["shell"] = request.shell
        body.update(_place(request))
        if self._access.pids:
            body["pids"] = self._access.pids
        if request.stdin:
            body["stdin_b64"] = base64.b64encode(request.stdin).decode()
        return _result(await self._json("POST", "/v1/exec", body, timeout_s=request.timeout_s + ANSWER_S))

    async def _exec_in_session(self, request: ExecRequest, body: dict[str, Any]) -> ExecResult:
        if request.stdin:
            raise SandboxError("a command in a session has no standard input", hint="write a file with put, or use no session")
        target = f"/v1/shells/{quote(request.session, safe='')}/run"
        async with self._sessions.setdefault(request.session, asyncio.Lock()):
            if request.session not in self._made_sessions:
                await self._json("POST", "/v1/shells", {"id": request.session, **_place(request)})
                await self._limit_session(target)
                self._made_sessions.add(request.session)
            body["command"] = request.shell or shlex.join(request.argv)
            said = await self._json("POST", target, body, timeout_s=request.timeout_s + ANSWER_S)
            if said.get("shell_restarted"):  # its limit is set again before the next command; a quiesced box would accept none now
                self._made_sessions.discard(request.session)
            return _result(said)

    async def interrupt(self, command: ExecId) -> None:
        """See `Interrupts.interrupt`."""
        reply = await self._ask("POST", f"/v1/exec/{quote(command, safe='')}/kill", b"{}", timeout_s=ANSWER_S, max_bytes=1 << 20)
        if reply.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            self._checked(reply)

    async def _limit_session(self, target: str) -> None:
        """Set in the shell the limit that boxd sets for single commands; bash and dash use different letters for it."""
        if self._access.pids:
            command = f"ulimit -u {self._access.pids} 2>/dev/null || ulimit -p {self._access.pids} 2>/dev/null || :"
            await self._json("POST", target, {"id": uuid.uuid4().hex, "command": command, "timeout_s": ANSWER_S})

    async def put(self, archive: bytes, *, dest: str = "/", owner: str = "agent") -> None:
        """See `Sandbox.put`."""
        query: dict[str, str] = {"dest": dest}
        if owner == "agent" and self._access.agent is not None:
            query["uid"], query["gid"] = map(str, self._access.agent)
        await self._call("PUT", f"/v1/archive?{urlencode(query)}", archive, timeout_s=TRANSFER_S)

    async def get(self, paths: Sequence[str], *, max_bytes: int = ARCHIVE_BYTES) -> bytes:
        """See `Sandbox.get`."""
        query = urlencode([("path", path) for path in paths] + [("max_bytes", str(max_bytes))], errors="surrogateescape")
        largest = min(max_bytes + ARCHIVE_OVERHEAD, ARCHIVE_BYTES)
        reply = await self._ask("GET", f"/v1/archive?{query}", b"", timeout_s=TRANSFER_S, max_bytes=largest)
        if reply.status == HTTPStatus.NOT_FOUND:
            raise FileNotFoundError(_problem(reply).get("message", "a path does not exist in the box"))
        return self._checked(reply).body

    async def mark(self, roots: Sequence[str], *, exclude: Sequence[str] = ()) -> None:
        """See `Box.mark`."""
        if self._quiesced:
            await self.resume()
        await self._json("POST", "/v1/baseline", {"roots": list(roots), "exclude": list(exclude)}, timeout_s=TRANSFER_S)

    async def diff(self, *, max_bytes: int = CHANGE_BYTES) -> Change:
        """See `Sandbox.diff`."""
        largest = max_bytes + ARCHIVE_OVERHEAD
        reply = await self._ask("GET", f"/v1/diff?max_bytes={max_bytes}", b"", timeout_s=TRANSFER_S, max_bytes=largest)
        if reply.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise BoxBroken(f"box {self._box_id}: too much was changed: more than {max_bytes} bytes")
        return await asyncio.to_thread(boxd_change.decode, self._checked(reply).body)  # a hundred thousand files, maybe

    async def restore(self, change: Change) -> None:
        """See `Box.restore`."""
        archive = await asyncio.to_thread(boxd_change.encode, change, self._access.agent or (0, 0), modified=int(time.time()))
        await self._call("POST", "/v1/restore", archive, timeout_s=TRANSFER_S)

    async def open_door(
        self,
        serve: Callable[[], asyncio.Protocol],
        *,
        connections: int = 32,
        cut_off: Callable[[float, str], None] = lambda _seconds, _why: None,
    ) -> AttendedDoor:
        """See `Doors.open_door`."""
        door = uuid.uuid4().hex
        said = await self._json("POST", "/v1/doors", {"id": door, "connections": connections})
        port = said.get("port")
        if not isinstance(port, int) or not 0 < port < 1 << 16:
            raise BoxBroken(f"boxd of {self._box_id} opened a door at an invalid port: {port!r}")

        async def shut() -> None:
            with contextlib.suppress(EnvfarmError):
                await self._ask("DELETE", f"/v1/doors/{door}", b"", timeout_s=ANSWER_S, max_bytes=1 << 16)

        def failed(seconds: float, why: OSError) -> None:
            if self._is_outside(why):
                cut_off(seconds, f"box {self._box_id}: {why}")

        way = Way(self._connections.endpoint, self._connections.fixed_head)
        made = AttendedDoor(door, port, way, serve, shut=shut, cut_off=failed)
        self._doors.append(made)
        return made

    async def quiesce(self) -> QuiesceReport:
        """See `Sandbox.quiesce`. It ends all sessions."""
        said = await self._json("POST", "/v1/quiesce", {}, timeout_s=60 + ANSWER_S)
        self._quiesced = True
        self._made_sessions.clear()
        remaining = tuple(f"{p.get('pid')} {p.get('comm')}" for p in said.get("remaining") or ())
        return QuiesceReport(killed=int(said.get("killed", 0)), remaining=remaining)

    async def resume(self) -> None:
        """See `Sandbox.resume`."""
        await self._json("POST", "/v1/resume", {})
        self._quiesced = False

    async def stats(self) -> BoxStats:
        """See `Box.stats`."""
        said = await self._json("GET", "/v1/stats")
        known = {name: said[name] for name in BoxStats.model_fields if said.get(name) is not None}
        return BoxStats.model_validate(known)

    def memory_kills(self) -> MemoryKills:
        """See `TellsMemoryKills.memory_kills`."""
        return self._access.memory_kills()

    async def close(self) -> None:
        """See `Sandbox.close`. A cancelled close still completes."""
        if self._closing is None:
            self._connections.close()
            self._closing = asyncio.ensure_future(self._remove())
        await asyncio.shield(self._closing)

    async def _remove(self) -> None:
        for door in self._doors:
            await door.close()
        await self._access.remove()

    async def _json(self, method: str, target: str, body: dict[str, Any] | None = None, *, timeout_s: float = ANSWER_S) -> dict[str, Any]:
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        reply = await self._call(method, target, data, timeout_s=timeout_s)
        try:
            value = json.loads(reply.body)
        except ValueError as e:
            raise BoxBroken(f"boxd of {self._box_id} answered with invalid JSON") from e
        if not isinstance(value, dict):
            raise BoxBroken(f"boxd of {self._box_id} answered with JSON that is not an object")
        return value

    async def _call(self, method: str, target: str, body: bytes | Sequence[bytes], *, timeout_s: float, max_bytes: int = 64 << 20) -> Reply:
        return self._checked(await self._ask(method, target, body, timeout_s=timeout_s, max_bytes=max_bytes))

    async def _ask(self, method: str, target: str, body: bytes | Sequence[bytes], *, timeout_s: float, max_bytes: int) -> Reply:
        """Send a request and retry it. Every request here may be repeated: execs carry ids, and the others are idempotent.

        Silence over a network is met by one more try, over a new connection: by then boxd has long had the answer.
        """
        waits, tries, asked_anew = itertools.chain(RECONNECT_S, itertools.repeat(TURNED_AWAY_S)), 0, not self._access.endpoint.host
        until = asyncio.get_running_loop().time() + sum(RECONNECT_S) + self._access.patience_s
        while True:
            if wait_s := next(waits):
                await asyncio.sleep(wait_s)
            if self._closing is not None:
                raise BoxLost(f"box {self._box_id} was closed")
            try:
                reply = await self._connections.request(method, target, body, timeout_s=timeout_s, max_bytes=max_bytes)
            except (ConnectionLost, NoRoom, TimeoutError) as e:
                tries += 1
                silent, late = isinstance(e, TimeoutError), asyncio.get_running_loop().time() > until
                if silent or tries >= len(RECONNECT_S) or not self._access.alive():
                    await self._judge_silence(e, last=asked_anew if silent else late or not self._is_outside(e))
                if silent:
                    asked_anew, timeout_s = True, min(timeout_s, ANSWER_S)
                    self._connections.renew()
            except ReplyTooLarge as e:
                raise BoxBroken(f"box {self._box_id}: {e}") from e
            else:
                if lost := self._access.ground_lost():
                    raise BoxLost(f"box {self._box_id}: {lost}, which it stands on, was removed or replaced")
                return reply

    async def _judge_silence(self, lost: ConnectionLost | NoRoom | TimeoutError, *, last: bool) -> None:
        """Raises the error that a silence means. Returns only if this try was not the `last`, and the box may still answer another."""
        if isinstance(lost, NoRoom):  # a limit of the farm's machine, which says nothing of the box
            raise BoxLost(f"box {self._box_id}: {lost}", hint="raise this process's limit of open files (`ulimit -n`)") from lost
        await self._raise_if_gone(lost)
        if self._access.suspended():
            hint = "SIGSTOP, a frozen control group or `docker pause` do that"
            raise BoxLost(f"boxd of {self._box_id} was suspended from outside the box", hint=hint) from lost
        if last and self._is_outside(lost):
            raise BoxLost(f"box {self._box_id} is alive, but the network to it is broken: {lost}") from lost
        if last:
            raise BoxBroken(f"boxd of {self._box_id} does not answer: {str(lost) or 'timed out'}") from lost

    def _is_outside(self, lost: OSError) -> bool:
        """Whether nothing in the box can have caused it: this machine has no room, or the network refuses where a living boxd would not."""
        return isinstance(lost, NoRoom) or (isinstance(lost, ConnectionLost) and lost.refused and self._access.patience_s > 0)

    async def _raise_if_gone(self, lost: Exception) -> None:
        """Get evidence on a silent box. If none can be obtained, the box is not blamed."""
        gone = self._access.gone
        if self._access.look is not None and not (gone and gone.done()):
            try:
                await self._access.look()
            except SandboxError as e:
                raise BoxLost(f"boxd of {self._box_id} does not answer ({lost}), and its state cannot be determined: {e}") from e
        if gone is not None and gone.done():
            why = gone.result()
            raise type(why)(f"box {self._box_id} is gone: {why}", hint=why.hint) from lost
        if not self._access.alive():
            raise BoxLost(f"box {self._box_id} is gone: {lost}") from lost

    def _checked(self, reply: Reply) -> Reply:
        if reply.status < HTTPStatus.MULTIPLE_CHOICES:
            return reply
        said = _problem(reply)
        what = f"box {self._box_id}: {said.get('error', reply.status)}: {said.get('message', '')}"
        if said.get("error") == "fenced":
            self.fenced = True
            raise BoxLost(f"{what} (epoch {said.get('epoch')} holds the box)")  # another holder has it, which nothing inside can cause
        if reply.status == HTTPStatus.INSUFFICIENT_STORAGE and self._access.disk_is_full():
            raise BoxLost(f"{what}: the disk of its host is full", hint="free some space on the host")
        if reply.status in BOX_FAULTS:
            raise BoxBroken(what)
        raise SandboxError(what)


def _problem(reply: Reply) -> dict[str, Any]:
    try:
        said = json.loads(reply.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _place(request: ExecRequest) -> dict[str, Any]:
    place: dict[str, Any] = {"user": "boxd" if request.user == "root" else "agent"}
    if request.cwd is not None:
        place["cwd"] = request.cwd
    if request.env:
        place["env"] = request.env
    return place


def _result(said: dict[str, Any]) -> ExecResult:
    try:
        return ExecResult(
            exit_code=said.get("exit_code"),
            signal=said.get("signal") or None,
            timed_out=bool(said.get("timed_out")),
            stdout=_stream(said, "stdout"),
            stderr=_stream(said, "stderr"),
            truncated=bool(said.get("truncated")),
            duration_s=float(said.get("duration_s") or 0),
            cpu_s=float(said.get("cpu_s") or 0),
            max_rss_bytes=int(said.get("max_rss_bytes") or 0),
            limit_hit=said.get("limit_hit") or "",
            contention=Contention.model_validate(seen) if (seen := said.get("contention")) else None,
        )
    except (TypeError, ValueError) as e:
        raise BoxBroken(f"boxd answered an exec with an invalid result: {e}") from e


def _stream(said: dict[str, Any], name: str) -> bytes:
    encoded = said.get(f"{name}_b64")
    return base64.b64decode(encoded, validate=True) if encoded else str(said.get(name) or "").encode()
