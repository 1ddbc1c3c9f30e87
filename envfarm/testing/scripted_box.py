"""A box in memory, for unit tests of code that uses boxes.

Files are a dict; commands are answered by a callable. `fail` makes the next calls of a verb raise an error. It keeps the contracts of
`envfarm.core.protocols` but runs nothing: for real commands use the answer `run_on_host`, or a real provider.
"""

import asyncio
import io
import os
import signal
import tarfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from envfarm.core.change import CHANGE_BYTES, Change, ChangedFile
from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError
from envfarm.core.ids import BoxId, ExecId
from envfarm.core.protocols import ARCHIVE_BYTES
from envfarm.core.sandbox import BoxStats, ExecRequest, ExecResult, QuiesceReport, SandboxSpec
from envfarm.testing.archives import tar_of

Verb = Literal["exec", "put", "get", "diff", "quiesce", "resume", "mark", "restore", "stats", "create"]
Answer = Callable[["ScriptedBox", ExecRequest], Awaitable[ExecResult]]


async def succeed(_: "ScriptedBox", __: ExecRequest) -> ExecResult:
    """An answer for a box in which every command succeeds without output."""
    return ExecResult(exit_code=0)


def run_on_host(root: Path) -> Answer:
    """An answer that runs real processes on this machine, in `root` if there is no cwd. Sessions keep no state."""

    async def answer(_: "ScriptedBox", request: ExecRequest) -> ExecResult:
        argv = request.argv or ("/bin/sh", "-c", request.shell)
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=request.cwd or root,
            env={"PATH": os.defpath, **request.env},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        timed_out = False
        waiting = asyncio.ensure_future(process.communicate(request.stdin))
        done, _pending = await asyncio.wait({waiting}, timeout=request.timeout_s)
        if not done:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = await waiting
        code = process.returncode
        return ExecResult(
            exit_code=code if code is not None and code >= 0 else None,
            signal=-code if code is not None and code < 0 else None,
            timed_out=timed_out,
            stdout=stdout,
            stderr=stderr,
            duration_s=time.monotonic() - started,
        )

    return answer


@dataclass
class ScriptedBox:
    """One box. Its calls are recorded in `requests` and `calls`."""

    spec: SandboxSpec
    answer: Answer = succeed
    files: dict[str, bytes] = field(default_factory=dict)
    """Absolute path → contents."""
    box_id: BoxId = field(default=BoxId("box-0"))
    closed: bool = False
    requests: list[ExecRequest] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    """Processes that `quiesce` cannot kill, as `pid comm`."""
    marked: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    _failures: dict[str, deque[Exception]] = field(default_factory=dict)
    _base: dict[str, bytes] = field(default_factory=dict)
    _results: dict[str, ExecResult] = field(default_factory=dict)

    def fail(self, verb: Verb, error: Exception, *, times: int = 1) -> None:
        """Make the next calls of a verb raise this."""
        self._failures.setdefault(verb, deque()).extend([error] * times)

    def _enter(self, verb: Verb) -> None:
        self.calls.append(verb)
        if waiting := self._failures.get(verb):
            raise waiting.popleft()
        if self.closed:
            raise BoxLost(f"{self.box_id} is closed")

    async def exec(self, request: ExecRequest) -> ExecResult:
        """Answer a command; the same exec id is answered once."""
        self._enter("exec")
        if request.exec_id and request.exec_id in self._results:
            return self._results[request.exec_id]
        self.requests.append(request)
        result = await self.answer(self, request)
        if request.exec_id:
            self._results[request.exec_id] = result
        return result

    async def put(self, archive: bytes, *, dest: str = "/", owner: str = "agent") -> None:  # noqa: ARG002 - part of the contract
        """Take over the files of a tar archive."""
        self._enter("put")
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for entry in tar:
                if (file := tar.extractfile(entry)) is not None:
                    self.files[f"{dest.rstrip('/')}/{entry.name}"] = file.read()

    async def get(self, paths: Sequence[str], *, max_bytes: int = ARCHIVE_BYTES) -> bytes:
        """A tar archive of files."""
        self._enter("get")
        for path in paths:
            if path not in self.files:
                raise FileNotFoundError(path)
            if len(self.files[path]) > max_bytes:
                raise BoxBroken(f"{path} is larger than {max_bytes} bytes")
        return tar_of(*((path.removeprefix("/"), self.files[path]) for path in paths))

    async def mark(self, roots: Sequence[str], *, exclude: Sequence[str] = ()) -> None:
        """Remember the current files."""
        self._enter("mark")
        self.marked = (tuple(roots), tuple(exclude))
        self._base = dict(self.files)

    async def diff(self, *, max_bytes: int = CHANGE_BYTES) -> Change:
        """The difference since the mark."""
        self._enter("diff")
        roots, exclude = self.marked or ((), ())
        seen = {p for p in {*self.files, *self._base} if _below(p, roots) and not _below(p, exclude)}
        changed = [p for p in sorted(seen) if p in self.files and self.files[p] != self._base.get(p)]
        if sum(len(self.files[p]) for p in changed) > max_bytes:
            raise BoxBroken(f"too much was changed: more than {max_bytes} bytes")
        return Change(
            tuple(ChangedFile(p.removeprefix("/"), 0o644, self.files[p]) for p in changed),
            tuple(p.removeprefix("/") for p in sorted(seen) if p not in self.files),
        )

    async def restore(self, change: Change) -> None:
        """Apply a change."""
        self._enter("restore")
        for path in change.deleted:
            self.files.pop(f"/{path}", None)
        self.files.update({f"/{f.path}": f.content for f in change.files if f.content is not None})

    async def quiesce(self) -> QuiesceReport:
        """Report only the survivors."""
        self._enter("quiesce")
        return QuiesceReport(killed=0, remaining=tuple(self.survivors))

    async def resume(self) -> None:
        """Do nothing."""
        self._enter("resume")

    async def stats(self) -> BoxStats:
        """All counters are 0."""
        self._enter("stats")
        return BoxStats()

    async def close(self) -> None:
        """Close the box. May be called again."""
        self.calls.append("close")
        self.closed = True


@dataclass
class ScriptedProvider:
    """Creates scripted boxes and keeps them all. `prepare` may add failures to each before it is returned."""

    answer: Answer = succeed
    files: dict[str, bytes] = field(default_factory=dict)
    prepare: Callable[[ScriptedBox], None] | None = None
    name: str = "scripted"
    boxes: list[ScriptedBox] = field(default_factory=list)
    create_failures: list[Exception] = field(default_factory=list)

    @property
    def open_boxes(self) -> list[ScriptedBox]:
        """The boxes that are not closed."""
        return [b for b in self.boxes if not b.closed]

    async def create(self, spec: SandboxSpec) -> ScriptedBox:
        """A new box with the provider's files."""
        if self.create_failures:
            raise self.create_failures.pop(0)
        box = ScriptedBox(spec, self.answer, dict(self.files), BoxId(f"box-{len(self.boxes)}"))
        if self.prepare:
            self.prepare(box)
        self.boxes.append(box)
        return box

    async def destroy(self, box: BoxId) -> None:
        """Close the box. No error if it is gone."""
        for one in self.boxes:
            if one.box_id == box:
                one.closed = True

    async def collect_left_overs(self) -> int:
        """Always 0: it knows only its own boxes."""
        return 0

    async def aclose(self) -> None:
        """Close every box."""
        for box in self.boxes:
            box.closed = True


@dataclass
class LastingProvider(ScriptedProvider):
    """Creates scripted boxes that go on without whoever made them. Implements `Adopts`."""

    asked: list[tuple[BoxId, tuple[ExecId, ...]]] = field(default_factory=list)
    """Which boxes were to be adopted, with the commands that none of them may have begun."""
    left: list[BoxId] = field(default_factory=list)
    refusal: EnvfarmError | None = None

    async def adopt(self, spec: SandboxSpec, box: BoxId, *, but: Sequence[ExecId]) -> ScriptedBox | None:
        """The box, if it is open and the episode's."""
        self.asked.append((box, tuple(but)))
        if self.refusal is not None:
            raise self.refusal
        (found,) = (each for each in self.boxes if each.box_id == box)
        others = found.closed or found.spec.episode_id != spec.episode_id
        return None if others or any(request.exec_id in but for request in found.requests) else found

    async def leave(self, box: BoxId) -> None:
        """Keep it open."""
        self.left.append(box)


def _below(path: str, roots: Sequence[str]) -> bool:
    return any(path == r or path.startswith(r.rstrip("/") + "/") for r in roots)
