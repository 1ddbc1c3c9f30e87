"""Runs the answers' programs in a box: on the asker's own input, and on variants of it. Called by `envfarm tasks understand --try`.

A trial says whether the accepted answer prints what the asker wants (only white space at ends may differ), and on which variants two
answers that both do so agree. The box is closed and thrown away; a program that fails or hangs is an outcome, not an error.
"""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.core.frozen import Frozen
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from task_builders.questions.understanding import InputFile, Solution, Understood
from task_builders.questions.variants import TOKEN, Variant, variants

VISIBLE = "visible"
ROOM = "/testbed"
PROGRAM = ".program"
TIMEOUT_S = 10.0
OUTPUT_BYTES = 1 << 20
COMMANDS = {"awk": "awk -f", "sed": "sed -f", "jq": "jq -f", "perl": "perl", "python": "python3", "shell": "bash"}
ALONE = "the accepted answer prints what is wanted, and no second answer says what it prints for other inputs"
FAILS = "the accepted answer's program fails in the box"
PRINTS_OTHERS = "the accepted answer's program prints something else"
MIN_VARIANTS = 3
"""Decided variants with distinct outputs, without which a task could be answered by heart."""


class Run(Frozen):
    """What one program did with one input."""

    case: str
    answer: int
    output: str
    failed: str = ""
    """Why it gave no output that counts; empty where it did."""


class Trial(Frozen):
    """What the answers' programs did."""

    runs: tuple[Run, ...]
    reproduced: bool
    """Whether the accepted answer's first program that runs prints what is wanted."""
    decided: dict[str, str] = {}
    """Variant → the output on which two answers agree."""
    disagreed: tuple[str, ...] = ()
    """Variants on which they do not: evidence, kept."""

    @property
    def verdict(self) -> str:
        """In words that a table can count."""
        if self.reproduced:
            return "two answers agree on enough variants" if self.enough else ALONE
        first = next((r for r in self.runs), None)
        return FAILS if first is not None and first.failed else PRINTS_OTHERS

    @property
    def enough(self) -> bool:
        """Whether enough variants with distinct outputs are decided."""
        return len(set(self.decided.values())) >= MIN_VARIANTS


@dataclass(frozen=True, slots=True)
class _Job:
    case: str
    at: int
    solution: Solution
    inputs: tuple[InputFile, ...]

    @property
    def folder(self) -> str:
        return f"{self.case.replace(' ', '-')}-{self.at}"


def can_run(understood: Understood) -> str:
    """Why a trial cannot be made yet; empty where it can."""
    if understood.state != "standard output":
        return f"programs whose state is compared ({understood.state}) are not run yet"
    return ""


async def run(box: Box, understood: Understood) -> Trial:
    """The trial of a question in a box of its own. Raises what the box raises."""
    visible = Variant(VISIBLE, understood.inputs)
    first = await _runs(box, understood.solutions, visible)
    accepted = understood.solutions[0].answer
    good = [s for s, r in zip(understood.solutions, first, strict=True) if not r.failed and same(r.output, understood.desired)]
    if not any(s.answer == accepted for s in good):
        return Trial(runs=tuple(first), reproduced=False)
    witnesses = list({s.answer: s for s in reversed(good)}.values())
    kept = {token for s in understood.solutions for token in TOKEN.findall(s.program.text)}
    runs, decided, disagreed = list(first), {}, []
    for variant in variants(understood.inputs, kept) if len(witnesses) > 1 else ():
        found = await _runs(box, witnesses, variant)
        runs += found
        outputs = {normal(r.output) for r in found if not r.failed}
        if len(outputs) == 1 and not any(r.failed for r in found) and outputs != {""}:
            decided[variant.name] = outputs.pop()
        else:
            disagreed.append(variant.name)
    return Trial(runs=tuple(runs), reproduced=True, decided=decided, disagreed=tuple(disagreed))


def normal(text: str) -> str:
    """A text without white space at the ends of its lines, and without empty lines at its end."""
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n")


def same(output: str, desired: str) -> bool:
    """Whether an output is the desired one."""
    return normal(output) == normal(desired)


async def _runs(box: Box, solutions: Sequence[Solution], variant: Variant) -> list[Run]:
    jobs = [_Job(variant.name, at, solution, variant.inputs) for at, solution in enumerate(solutions)]
    await box.put(_archive(jobs), dest=ROOM)
    return [await _one(box, job) for job in jobs]


async def _one(box: Box, job: _Job) -> Run:
    names = "" if job.solution.program.kind in ("shell", "python") else " ".join(f"'./{name}'" for name in job.solution.names)
    fed = f" < './{job.solution.names[0]}'" if job.solution.reads == "standard input" else " < /dev/null"
    request = ExecRequest(
        shell=f"{COMMANDS[job.solution.program.kind]} {PROGRAM} {names}{fed}",
        cwd=f"{ROOM}/{job.folder}",
        env={"LC_ALL": "C.UTF-8"},
        timeout_s=TIMEOUT_S,
        output_bytes=OUTPUT_BYTES,
    )
    result = await box.exec(request)
    failed = (
        "it does not end"
        if result.timed_out
        else ""
        if result.ok
        else f"status {result.exit_code}: {result.stderr[-200:].decode(errors='replace')}"
    )
    if result.limit_hit or result.truncated:
        failed = failed or "it prints or takes too much"
    return Run(case=job.case, answer=job.solution.answer, output=result.stdout.decode(errors="replace"), failed=failed)


def _archive(jobs: Sequence[_Job]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for job in jobs:
            named = zip(job.solution.names, job.inputs, strict=True)
            files = {PROGRAM: job.solution.program.text, **{name: each.text for name, each in named}}
            for name, text in files.items():
                data = text.encode()
                info = tarfile.TarInfo(f"{job.folder}/{name}")
                info.size, info.mode = len(data), 0o644
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
