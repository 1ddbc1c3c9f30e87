"""Runs answers' programs in a box.

Each run has a directory of its own with its input files. Programs that use pandas run in batches, forked from one process that has imported
it: the import takes a second, and a trial has a hundred runs. A program that fails or hangs is a result, not an error.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envfarm.core.frozen import Frozen
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.images.tarball import Entry, pack
from envfarm.memory_blame import run_witnessed
from task_builders.questions import scripts, starting
from task_builders.questions.joining import InputFile, Solution
from task_builders.questions.scripts import Display
from task_builders.questions.starting import State

RUNS_DIRECTORY = "/tmp/trial"  # noqa: S108 - inside the box
PROGRAM = ".program"
TIMEOUT_S = 10
OUTPUT_BYTES = 1 << 20
BATCH = 16
"""Runs per batch; the box returns all their outputs in one answer."""
FORKED_S = 60
"""Seconds allowed per batch whatever its size: importing is slow on a busy machine."""
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


class TooLong(Exception):  # noqa: N818 - a result for the question, not an error
    """The time limit for the question's programs is used up."""


class CommandBox(Protocol):
    """The part of a box's interface that is used here."""

    async def put(self, archive: bytes, *, dest: str) -> None:
        """See `Box`."""
        ...

    async def exec(self, request: ExecRequest) -> ExecResult:
        """See `Box`."""
        ...


class Metered:
    """A box whose programs may run for a limited number of seconds in total, as the box measures them; then it raises `TooLong`."""

    def __init__(self, box: CommandBox, limit_s: float) -> None:
        self._box = box
        self._left_s = limit_s

    async def put(self, archive: bytes, *, dest: str) -> None:
        """See `Box`."""
        await self._box.put(archive, dest=dest)

    async def exec(self, request: ExecRequest) -> ExecResult:
        """See `Box`. Also raises `TooLong`, and `BoxLost` if the machine had no memory left for a program."""
        result = await run_witnessed(self._box, request, children=True)
        self._left_s -= result.duration_s
        if self._left_s < 0:
            raise TooLong
        return result


class Run(Frozen):
    """The result of one program for one input."""

    case: str
    answer: int
    output: str
    failed: str = ""
    """Why there is no usable output; empty if there is one."""
    seconds: float = 0.0
    """Duration; 0 for runs in a batch, where no process is started anew."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A solution with one way of printing."""

    solution: Solution
    display: Display

    @property
    def text(self) -> str:
        """The text of the executable file."""
        return scripts.executable(self.solution, self.display)

    @property
    def prints_table(self) -> bool:
        """Whether a data frame library lays out its output."""
        return self.display.startswith("table") or (self.display != "json" and "pandas" in scripts.tools_of(self.solution))


@dataclass(frozen=True, slots=True)
class Job:
    """A program with input files."""

    case: str
    at: int
    candidate: Candidate
    inputs: tuple[InputFile, ...]
    output: str
    """The file that is compared, by the name that the task's program gives it; empty if standard output is."""
    state: State = "standard output"
    """What is compared."""

    @property
    def shown(self) -> str:
        """The file that is compared, by the name that this program gives it."""
        return self.output and (self.candidate.solution.program.leaves or self.output)

    @property
    def folder(self) -> str:
        """Its directory below `RUNS_DIRECTORY`."""
        return f"{self.case.replace(' ', '-')}-{self.at}"


async def runs(box: CommandBox, jobs: Sequence[Job]) -> list[Run]:
    """Run jobs; results are in their order. Raises what the box raises, and `TooLong`."""
    await box.put(_archive(jobs), dest=RUNS_DIRECTORY)
    forked = [job for job in jobs if "pandas" in scripts.tools_of(job.candidate.solution)]
    found: dict[str, Run] = {}
    for some in (forked[at : at + BATCH] for at in range(0, len(forked), BATCH)):
        found |= zip((job.folder for job in some), await _batch(box, some), strict=True)
    return [found[job.folder] if job.folder in found else await _one(box, job) for job in jobs]


async def _batch(box: CommandBox, jobs: Sequence[Job]) -> list[Run]:
    runner = RUNNER % (TIMEOUT_S, OUTPUT_BYTES, OUTPUT_BYTES, PROGRAM)
    asked = json.dumps([[job.folder, job.shown] for job in jobs])
    request = ExecRequest(
        argv=("/usr/bin/env", "python3", "-c", runner, asked),
        cwd=RUNS_DIRECTORY,
        env={"LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
        timeout_s=FORKED_S + TIMEOUT_S * len(jobs),
        output_bytes=2 * OUTPUT_BYTES * len(jobs),
    )
    result = await box.exec(request)
    lines = result.stdout.decode(errors="replace").splitlines()
    return [_of_line(job, lines[n] if n < len(lines) else "") for n, job in enumerate(jobs)]


def _of_line(job: Job, line: str) -> Run:
    """Parse the runner's line on a job. If a program ended or deceived the runner, the run counts as failed."""
    whose = job.candidate.solution.answer
    try:
        status, output, errors = json.loads(line)
        text, said = (base64.b64decode(each).decode(errors="replace") for each in (output, errors))
    except (ValueError, TypeError, RecursionError):
        return Run(case=job.case, answer=whose, output="", failed="it ended the process of its batch")
    failed = "" if status == 0 else "it does not end" if status == -14 else f"status {status}: {said[-200:]}"  # noqa: PLR2004 - SIGALRM
    return Run(case=job.case, answer=whose, output=text, failed=failed)


async def _one(box: CommandBox, job: Job) -> Run:
    request = ExecRequest(
        shell=starting.shell(job.state, PROGRAM, job.shown),
        cwd=f"{RUNS_DIRECTORY}/{job.folder}",
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
        failed = "it prints too much or uses too many resources"
    text, whose = result.stdout.decode(errors="replace"), job.candidate.solution.answer
    return Run(case=job.case, answer=whose, output=text, failed=failed, seconds=result.duration_s)


def _archive(jobs: Sequence[Job]) -> bytes:
    entries = []
    for job in jobs:
        named = zip(job.candidate.solution.names, job.inputs, strict=True)
        entries += [Entry(f"{job.folder}/{name}", content=each.text.encode()) for name, each in named]
        entries.append(Entry(f"{job.folder}/{PROGRAM}", 0o755, content=job.candidate.text.encode()))
    return pack(entries)
