"""Runs of answers' programs in a box. Called by trials.

Each has a folder of its own with its input files. Programs around a library of tables are run in batches, forked from one process that has
imported it: that takes a second, and a trial has a hundred runs. A program that fails or hangs is an outcome, not an error.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envfarm.core.frozen import Frozen
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.images.tarball import Entry, pack
from task_builders.questions import scripts, starting
from task_builders.questions.joining import InputFile, Solution
from task_builders.questions.scripts import Display
from task_builders.questions.starting import State

ROOM = "/tmp/trial"  # noqa: S108 - inside the box
PROGRAM = ".program"
TIMEOUT_S = 10
OUTPUT_BYTES = 1 << 20
BATCH = 16
"""Runs of one batch: all their outputs come in one answer of the box."""
FORKED_S = 60
"""Of a batch whatever its size: importing takes long on a busy machine."""
RUNNER = """
import base64, json, os, resource, runpy, signal, sys
import pandas
for folder, shown in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        os.chdir(folder)
        signal.alarm(%d)
        resource.setrlimit(resource.RLIMIT_FSIZE, (%d, %d))
        for number, name, flags in ((0, os.devnull, 0), (1, ".out", 577), (2, ".err", 577)):
            os.dup2(os.open(name, flags, 0o600), number)
        status = 1
        try:
            runpy.run_path("%s", run_name="__main__")
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    texts = []
    for name in (shown or ".out", ".err"):
        try:
            texts.append(base64.b64encode(open(os.path.join(folder, name), "rb").read()).decode())
        except OSError:
            texts.append("")
    print(json.dumps([status, *texts]), flush=True)
"""


class TooLong(Exception):  # noqa: N818 - an outcome of the question's, and no error
    """The time that a question may take is over."""


class Room(Protocol):
    """What of a box is used."""

    async def put(self, archive: bytes, *, dest: str) -> None:
        """See `Box`."""
        ...

    async def exec(self, request: ExecRequest) -> ExecResult:
        """See `Box`."""
        ...


class Metered:
    """A box for so long as programs have run in it for no more than a number of seconds, by what the box says of each; then `TooLong`."""

    def __init__(self, box: Room, limit_s: float) -> None:
        self._box = box
        self._left_s = limit_s

    async def put(self, archive: bytes, *, dest: str) -> None:
        """See `Box`."""
        await self._box.put(archive, dest=dest)

    async def exec(self, request: ExecRequest) -> ExecResult:
        """See `Box`; raises `TooLong`, too."""
        result = await self._box.exec(request)
        self._left_s -= result.duration_s
        if self._left_s < 0:
            raise TooLong
        return result


class Run(Frozen):
    """What one program did with one input."""

    case: str
    answer: int
    output: str
    failed: str = ""
    """Why it gave no output that counts; empty where it did."""
    seconds: float = 0.0
    """How long it took; 0 for one of a batch, where nothing is started anew."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A solution with one way of printing."""

    solution: Solution
    display: Display

    @property
    def text(self) -> str:
        """As an executable file."""
        return scripts.executable(self.solution, self.display)

    @property
    def prints_table(self) -> bool:
        """Whether what it prints is laid out by a library of data frames."""
        return self.display.startswith("table") or (self.display != "json" and "pandas" in scripts.tools_of(self.solution))


@dataclass(frozen=True, slots=True)
class Job:
    """A program with input files."""

    case: str
    at: int
    candidate: Candidate
    inputs: tuple[InputFile, ...]
    output: str
    """The file that is compared; empty where it is what the program prints."""
    state: State = "standard output"
    """What is compared."""

    @property
    def folder(self) -> str:
        """Where it runs, below `ROOM`."""
        return f"{self.case.replace(' ', '-')}-{self.at}"


async def runs(box: Room, jobs: Sequence[Job]) -> list[Run]:
    """What came of jobs, in their order. Raises what the box raises, and `TooLong`."""
    await box.put(_archive(jobs), dest=ROOM)
    forked = [job for job in jobs if "pandas" in scripts.tools_of(job.candidate.solution)]
    found: dict[str, Run] = {}
    for some in (forked[at : at + BATCH] for at in range(0, len(forked), BATCH)):
        found |= zip((job.folder for job in some), await _batch(box, some), strict=True)
    return [found[job.folder] if job.folder in found else await _one(box, job) for job in jobs]


async def _batch(box: Room, jobs: Sequence[Job]) -> list[Run]:
    runner = RUNNER % (TIMEOUT_S, OUTPUT_BYTES, OUTPUT_BYTES, PROGRAM)
    asked = json.dumps([[job.folder, job.output] for job in jobs])
    request = ExecRequest(
        argv=("/usr/bin/env", "python3", "-c", runner, asked),
        cwd=ROOM,
        env={"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
        timeout_s=FORKED_S + TIMEOUT_S * len(jobs),
        output_bytes=2 * OUTPUT_BYTES * len(jobs),
    )
    result = await box.exec(request)
    lines = result.stdout.decode(errors="replace").splitlines()
    return [_of_line(job, lines[n] if n < len(lines) else "") for n, job in enumerate(jobs)]


def _of_line(job: Job, line: str) -> Run:
    """What the runner says of a job; a program in its box may have ended or deceived it, which is a failure like others."""
    whose = job.candidate.solution.answer
    try:
        status, output, errors = json.loads(line)
        text, said = (base64.b64decode(each).decode(errors="replace") for each in (output, errors))
    except (ValueError, TypeError, RecursionError):
        return Run(case=job.case, answer=whose, output="", failed="it ended the batch that it was in")
    failed = "" if status == 0 else "it does not end" if status == -14 else f"status {status}: {said[-200:]}"  # noqa: PLR2004 - SIGALRM
    return Run(case=job.case, answer=whose, output=text, failed=failed)


async def _one(box: Room, job: Job) -> Run:
    request = ExecRequest(
        shell=starting.shell(job.state, PROGRAM, job.output),
        cwd=f"{ROOM}/{job.folder}",
        env={"LC_ALL": "C.UTF-8"},
        timeout_s=TIMEOUT_S,
        output_bytes=OUTPUT_BYTES,
    )
    result = await box.exec(request)
    failed = ""
    if result.timed_out:
        failed = "it does not end"
    elif not result.ok:
        failed = f"status {result.exit_code}: {result.stderr[-200:].decode(errors='replace')}"
    elif result.limit_hit or result.truncated:
        failed = "it prints or takes too much"
    text, whose = result.stdout.decode(errors="replace"), job.candidate.solution.answer
    return Run(case=job.case, answer=whose, output=text, failed=failed, seconds=result.duration_s)


def _archive(jobs: Sequence[Job]) -> bytes:
    entries = []
    for job in jobs:
        named = zip(job.candidate.solution.names, job.inputs, strict=True)
        entries += [Entry(f"{job.folder}/{name}", content=each.text.encode()) for name, each in named]
        entries.append(Entry(f"{job.folder}/{PROGRAM}", 0o755, content=job.candidate.text.encode()))
    return pack(entries)
