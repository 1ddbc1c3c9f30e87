"""One simulated box: boxd's routes, with files in memory and runs without processes.

Every answer goes through `reply`, immediately or later. It refuses what boxd's documentation says is refused.
"""

import asyncio
import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

from envfarm.testing.boxd_simulator.config import BoxConfig
from envfarm.testing.boxd_simulator.ledger import BoxPage
from envfarm.testing.boxd_simulator.runs import DEFAULT_OUTPUT, SIGKILL, Run, Runs, check_id
from envfarm.testing.boxd_simulator.script import Asked, Delays, Script
from envfarm.testing.boxd_simulator.tree import DEFAULT_BYTES, Refused, Tree
from envfarm.testing.boxd_simulator.words import Shell, Steps, run_argv, run_line

Reply = Callable[[int, Mapping[str, Any] | Sequence[bytes]], None]
"""A status, and an object to send as JSON or pieces to stream."""
SHELLS_MOST = 64
WAIT_MOST_S = 60.0
EXEC_FIELDS = frozenset(
    {"id", "argv", "shell", "cwd", "env", "clear_env", "user", "stdin", "stdin_b64", "timeout_s", "output_bytes", "cores", "pids", "detach"}
)
SHELL_FIELDS = frozenset({"id", "cwd", "env", "user"})
RUN_FIELDS = frozenset({"id", "command", "timeout_s", "output_bytes", "cores"})


class _Session:
    """A persistent shell."""

    def __init__(self, shell: Shell, first: Mapping[str, str]) -> None:
        self.shell = shell
        self.first = dict(first)
        self.busy = False
        self.restarted = False

    def restart(self) -> None:
        self.shell.variables = dict(self.first)
        self.restarted = True

    def ended(self, run: Run) -> None:
        if run.exited:
            self.restart()
        self.busy = False
        run.more = {"cwd": self.shell.cwd, "shell_restarted": self.restarted}
        self.restarted = False


class SimulatedBox:
    """A box between its configuration and its end."""

    def __init__(self, token: str, config: BoxConfig, page: BoxPage, *, script: Script, delays: Delays) -> None:
        self._token = token
        self._config = config
        self._page = page
        self._script = script
        self._delays = delays
        self._epoch = config.epoch
        self._quiesced = False
        self._tree = Tree()
        self._tree.make_dirs(config.work_dir)
        self._runs = Runs()
        self._sessions: dict[str, _Session] = {}
        self._pids = 1
        self._began = asyncio.get_running_loop().time()

    @property
    def page(self) -> BoxPage:
        """The record of its requests."""
        return self._page

    def is_token(self, token: str) -> bool:
        """Whether this is the box's token."""
        return token == self._token

    def end(self, at: float) -> None:
        """Remove the box: all runs end without an answer."""
        self._page.ended = at
        self._runs.kill_all()

    def answer(self, method: str, target: str, epoch: int | None, body: bytes, reply: Reply) -> None:
        """Answer one authorized request. Raises `Refused`."""
        path, _, query = target.partition("?")
        self._page.requests += 1
        self._enter(path, epoch)
        match method, path:
            case "POST", "/v1/exec":
                self._exec(_object(body, EXEC_FIELDS), reply)
            case "GET", "/v1/health":
                reply(200, self._health())
            case "GET", "/v1/stats":
                reply(200, self._stats())
            case "POST", "/v1/shells":
                reply(200, self._make_session(_object(body, SHELL_FIELDS)))
            case "POST", "/v1/quiesce":
                reply(200, self._quiesce())
            case "POST", "/v1/resume":
                self._quiesced = False
                reply(200, {"quiesced": False})
            case _ if path.startswith(("/v1/exec/", "/v1/shells/")):
                self._of_id(method, path, query, body, reply)
            case _:
                self._files(method, path, query, body, reply)

    def refuse(self, refused: Refused, reply: Reply) -> None:
        """Answer with a refusal."""
        self._page.refused[refused.code] = self._page.refused.get(refused.code, 0) + 1
        more = {"epoch": self._epoch} if refused.code == "fenced" else {}
        reply(refused.status, {"error": refused.code, "message": refused.message, **more})

    def _enter(self, path: str, epoch: int | None) -> None:
        if epoch is None:
            if path != "/v1/health":
                raise Refused(400, "epoch_missing", "X-Boxd-Epoch is needed")
            return
        if epoch < self._epoch:
            raise Refused(409, "fenced", "a later epoch holds this box")
        if not self._page.epochs or epoch > self._page.epochs[-1]:
            self._page.epochs.append(epoch)
        self._epoch = epoch

    def _health(self) -> dict[str, Any]:
        up_s = asyncio.get_running_loop().time() - self._began
        return {"version": "simulated", "epoch": self._epoch, "uptime_s": up_s, "quiesced": self._quiesced}

    def _stats(self) -> dict[str, Any]:
        nothing = dict.fromkeys(("cpu_s", "memory_bytes", "memory_peak_bytes", "pids", "pids_peak", "bytes_in", "bytes_out"), 0)
        used = {"disk_bytes": self._tree.size_bytes, "execs": self._runs.started, "oom_kills": None}
        return {**nothing, **used, "limit_hits": {"memory": 0, "pids": 0, "disk": 0}}

    def _quiesce(self) -> dict[str, Any]:
        self._quiesced = True
        killed = self._runs.kill_all() + len(self._sessions)
        for session in self._sessions.values():
            session.restart()
        return {"killed": killed, "remaining": [], "rounds": 2}

    def _exec(self, asked: dict[str, Any], reply: Reply) -> None:
        exec_id = check_id(asked.get("id"))
        argv, line = tuple(asked.get("argv") or ()), asked.get("shell")
        if bool(argv) == (line is not None):
            raise Refused(400, "bad_request", "exactly one of argv and shell")
        run = self._claimed(exec_id)
        if run is None:
            shell = self._shell(asked)
            shell.stdin = _input(asked)
            run = Run(exec_id, output_bytes=_kept_bytes(asked))
            self._start(run, Asked(exec_id, argv, line or "", "", asked.get("user") or "agent", shell.cwd), shell, asked.get("timeout_s"))
        if asked.get("detach"):
            reply(200, {"id": exec_id, "running": run.running})
        else:
            _when_done(run, reply)

    def _claimed(self, exec_id: str) -> Run | None:
        """The existing run of the requested id; None if it must be started now."""
        self._page.asked[exec_id] = self._page.asked.get(exec_id, 0) + 1
        if (run := self._runs.find(exec_id)) is None and self._quiesced:
            raise Refused(409, "quiesced", "the box is quiesced")
        return run

    def _start(self, run: Run, asked: Asked, shell: Shell, timeout_s: float | None) -> None:
        self._page.ran[run.exec_id] = self._page.ran.get(run.exec_id, 0) + 1
        self._runs.start(run, self._steps(run, asked, shell), timeout_s)

    def _steps(self, run: Run, asked: Asked, shell: Shell) -> Steps:
        played = self._script(asked, self._tree)
        seconds = played.seconds if played is not None else None
        if seconds is None:
            seconds = self._delays.draw(f"{self._page.address} {asked.exec_id}") if asked.user == "agent" else 0.0
        if seconds > 0:
            yield seconds
        if played is not None:
            run.stdout += played.stdout
            run.stderr += played.stderr
            return played.exit_code

        def out(data: bytes) -> None:
            run.stdout += data
            run.news()

        if asked.argv:
            return (yield from run_argv(shell, asked.argv, out, run.stderr.extend))
        return (yield from run_line(shell, asked.line, out, run.stderr.extend))

    def _shell(self, asked: Mapping[str, Any]) -> Shell:
        self._pids += 1
        variables = {**self._config.exec_env, **(asked.get("env") or {})}
        return Shell(self._tree, asked.get("cwd") or self._config.work_dir, variables, self._pids)

    def _make_session(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = check_id(asked.get("id"))
        if name not in self._sessions:
            if len(self._sessions) >= SHELLS_MOST:
                raise Refused(409, "too_many_shells", f"at most {SHELLS_MOST}")
            if self._quiesced:
                raise Refused(409, "quiesced", "the box is quiesced")
            shell = self._shell(asked)
            self._sessions[name] = _Session(shell, shell.variables)
        return {"id": name, "cwd": self._sessions[name].shell.cwd, "shell": "sh"}

    def _run_in_session(self, name: str, asked: Mapping[str, Any], reply: Reply) -> None:
        exec_id, command = check_id(asked.get("id")), asked.get("command") or ""
        run = self._claimed(exec_id)
        if run is None:
            session = self._sessions.get(name)
            if session is None:
                raise Refused(404, "not_found", "no shell has this id")
            if session.busy:
                raise Refused(409, "shell_busy", "another run is under way in this shell")
            session.busy = True
            run = Run(exec_id, output_bytes=_kept_bytes(asked))
            about = Asked(exec_id, (), command, name, "agent", session.shell.cwd)

            run.ended = session.ended
            self._start(run, about, session.shell, asked.get("timeout_s"))
        _when_done(run, reply)

    def _of_id(self, method: str, path: str, query: str, body: bytes, reply: Reply) -> None:
        kind, name, *rest = path.removeprefix("/v1/").split("/")
        name = unquote(name)
        match method, kind, rest:
            case "POST", "shells", ["run"]:
                self._run_in_session(name, _object(body, RUN_FIELDS), reply)
            case "DELETE", "shells", []:
                if self._sessions.pop(name, None) is None:
                    raise Refused(404, "not_found", "no shell has this id")
                reply(200, {"id": name, "killed": 1})
            case "POST", "exec", ["kill"]:
                run = self._known(name)
                killed = self._runs.kill(run, _object(body, frozenset({"signal"})).get("signal") or SIGKILL)
                reply(200, {"id": name, "running": False, "killed": killed})
            case "GET", "exec", []:
                self._output(self._known(name), query, reply)
            case _:
                raise Refused(404, "no_route", f"{method} {path}")

    def _known(self, exec_id: str) -> Run:
        run = self._runs.find(exec_id)
        if run is None:
            raise Refused(404, "not_found", "no exec has this id")
        return run

    def _output(self, run: Run, query: str, reply: Reply) -> None:
        said = parse_qs(query)
        stdout_at, stderr_at = _number(said, "stdout_offset", 0), _number(said, "stderr_offset", 0)
        wait_s = min(float(said.get("wait_s", ["0"])[0]), WAIT_MOST_S)
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s

        def tell() -> None:
            late = loop.time() >= until
            if run.has_news(stdout_at, stderr_at) or late:
                timer.cancel()
                reply(200, run.since(stdout_at, stderr_at))
            else:
                run.waiting.append(tell)

        timer = loop.call_later(wait_s, run.news)
        tell()

    def _files(self, method: str, path: str, query: str, body: bytes, reply: Reply) -> None:
        said = parse_qs(query, errors="surrogateescape")
        most = _number(said, "max_bytes", DEFAULT_BYTES)
        match method, path:
            case "PUT", "/v1/archive":
                entries, size = self._tree.unpack(body, said.get("dest", [""])[0], most)
                reply(200, {"entries": entries, "bytes": size})
            case "GET", "/v1/archive":
                reply(200, [self._tree.pack(said.get("path", []), most)])
            case "PUT", "/v1/file":
                name = said.get("path", [""])[0]
                if "parents" in said:
                    self._tree.make_dirs(name.rpartition("/")[0] or "/")
                self._tree.write(name, body)
                reply(200, {"bytes": len(body)})
            case "GET", "/v1/file":
                content = self._tree.read(said.get("path", [""])[0])
                if content is None:
                    raise Refused(404, "not_found", "no such file")
                offset = _number(said, "offset", 0)
                reply(200, [content[offset : offset + _number(said, "limit", len(content))]])
            case "POST", "/v1/baseline":
                about = _object(body, frozenset({"roots", "exclude"}))
                reply(200, {"entries": self._tree.mark(about.get("roots") or (), about.get("exclude") or ())})
            case "GET", "/v1/diff":
                reply(200, self._tree.diff(most))
            case "POST", "/v1/restore":
                reply(200, self._tree.restore(body))
            case _:
                raise Refused(404, "no_route", f"{method} {path}")


def _when_done(run: Run, reply: Reply) -> None:
    """Answer with the result, now or when the run ends."""
    if run.running:
        run.waiting.append(lambda: _when_done(run, reply))
    else:
        reply(200, run.result())


def _object(body: bytes, known: frozenset[str]) -> dict[str, Any]:
    try:
        said = json.loads(body or b"{}")
    except ValueError as e:
        raise Refused(400, "bad_request", f"no JSON: {e}") from e
    if not isinstance(said, dict) or not said.keys() <= known:
        raise Refused(400, "bad_request", "an object of known fields is needed")
    return said


def _input(asked: Mapping[str, Any]) -> bytes:
    if asked.get("stdin_b64"):
        return base64.b64decode(asked["stdin_b64"])
    return str(asked.get("stdin") or "").encode()


def _kept_bytes(asked: Mapping[str, Any]) -> int:
    given = asked.get("output_bytes")
    return DEFAULT_OUTPUT if given is None else int(given)


def _number(said: Mapping[str, Sequence[str]], name: str, otherwise: int) -> int:
    try:
        return int(said[name][0]) if name in said else otherwise
    except ValueError as e:
        raise Refused(400, "bad_request", f"{name}: a number") from e
