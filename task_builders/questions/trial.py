"""Runs the answers' programs in a box: on the asker's own input, and on variants of it. Called when a task is minted, and by
`envfarm tasks understand --try`.

A trial says whether the accepted answer prints what is wanted, and what must come of which variant. A variant is decided where another
answer's program agrees with the accepted one's; or where the output is foretold by the visible one (other words in the input are the
same words in the output; other order gives the same lines) and the accepted program prints just that. The box is closed and thrown
away; a program that fails or hangs is an outcome, not an error.
"""

import io
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.core.frozen import Frozen
from envfarm.core.plan import Relation
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from envfarm.grading import outputs
from task_builders.questions import scripts, understanding, wanted
from task_builders.questions.scripts import Display
from task_builders.questions.understanding import InputFile, Solution, Understood
from task_builders.questions.variants import RENAMINGS, TOKEN, Variant, variants
from task_builders.questions.wanted import Asked, Printed

VISIBLE = "visible"
ROOM = "/tmp/trial"  # noqa: S108 - inside the box
PROGRAM = ".program"
TIMEOUT_S = 10.0
OUTPUT_BYTES = 1 << 20
UNDECIDED = "the accepted answer prints what is wanted, and too little says what must come of other inputs"
FAILS = "the accepted answer's program fails in the box"
PRINTS_OTHERS = "the accepted answer's program prints something else"
GOOD = "enough variants are decided"
MIN_VARIANTS = 3
"""Decided variants with distinct outputs, without which a task could be answered by heart."""
TWO_ANSWERS = "two answers agree"
FORETOLD = "foretold by the visible output"
SAME_LINES = "the visible output's lines"


class Run(Frozen):
    """What one program did with one input."""

    case: str
    answer: int
    output: str
    failed: str = ""
    """Why it gave no output that counts; empty where it did."""


class Decided(Frozen):
    """What must come of a variant."""

    inputs: tuple[tuple[str, str], ...]
    """Names and texts of its files."""
    output: str
    by: str
    """What decides it: `TWO_ANSWERS`, `FORETOLD` or `SAME_LINES`."""


class Trial(Frozen):
    """What the answers' programs did."""

    runs: tuple[Run, ...]
    reproduced: bool
    """Whether one of the accepted answer's programs prints what is wanted."""
    program: str = ""
    """The accepted answer's program that does, as an executable file."""
    others: tuple[str, ...] = ()
    """Those of other answers that do, too."""
    output: str = ""
    """What it prints for the visible input."""
    relation: Relation = "lines"
    witness: str = ""
    decided: dict[str, Decided] = {}
    undecided: tuple[str, ...] = ()
    """Variants on which answers disagree, or of which nothing is foretold: evidence, kept."""

    @property
    def verdict(self) -> str:
        """In words that a table can count."""
        if self.reproduced:
            return GOOD if self.enough else UNDECIDED
        return FAILS if self.runs and all(r.failed for r in self.runs) else PRINTS_OTHERS

    @property
    def enough(self) -> bool:
        """Whether enough variants with distinct outputs, and others than the visible one, are decided: not all of them renamings."""
        telling = {name: d.output for name, d in self.decided.items() if d.output.strip() and d.output != self.output}
        return len(set(telling.values())) >= MIN_VARIANTS and not telling.keys() <= RENAMINGS

    @property
    def agreed(self) -> bool:
        """Whether two independent answers agree on all that is decided."""
        return bool(self.others) and all(d.by == TWO_ANSWERS for d in self.decided.values())


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
        return self.display.startswith("table") or (self.display != "json" and "pandas" in understanding.tools_of(self.solution.program))


@dataclass(frozen=True, slots=True)
class _Job:
    case: str
    at: int
    candidate: Candidate
    inputs: tuple[InputFile, ...]
    output: str

    @property
    def folder(self) -> str:
        return f"{self.case.replace(' ', '-')}-{self.at}"


async def run(box: Box, understood: Understood) -> Trial:
    """The trial of a question in a box of its own. Raises what the box raises."""
    candidates = [Candidate(s, display) for s in understood.solutions for display in scripts.displays(s)]
    output = understood.output
    first = await _runs(box, candidates, Variant(VISIBLE, understood.inputs), output)
    accepted = understood.solutions[0].answer
    good = [(c, r) for c, r in zip(candidates, first, strict=True) if not r.failed and r.output.strip()]
    printed = [Printed(c.solution.answer, r.output, c.prints_table) for c, r in good]
    asked = Asked(understood.words, tuple(each.text for each in understood.inputs))
    chosen = wanted.choose(understood.wanted, printed, accepted, asked)
    if chosen is None:
        return Trial(runs=tuple(first), reproduced=False)
    good = [(c, r) for c, r in good if outputs.same(chosen.text.encode(), r.output.encode(), chosen.relation)]
    witnesses = list({c.solution.answer: c for c, _ in reversed(good)}.values())
    witnesses.sort(key=lambda c: c.solution.answer != accepted)
    visible = next(r.output for c, r in good if c is witnesses[0])
    trial = Trial(
        runs=tuple(first),
        reproduced=True,
        program=witnesses[0].text,
        others=tuple(c.text for c in witnesses[1:]),
        output=visible,
        relation=chosen.relation,
        witness=chosen.witness,
    )
    return await _decide(box, understood, witnesses, trial)


async def _decide(box: Box, understood: Understood, witnesses: Sequence[Candidate], trial: Trial) -> Trial:
    kept = {token for s in understood.solutions for token in TOKEN.findall(s.program.text)}
    runs, decided, undecided = list(trial.runs), dict[str, Decided](), []
    for variant in variants(understood.inputs, kept):
        found = await _runs(box, witnesses, variant, understood.output)
        runs += found
        if by := _decision(found, variant, trial):
            decided[variant.name] = Decided(inputs=tuple(map(tuple, variant.inputs)), output=found[0].output, by=by)
        else:
            undecided.append(variant.name)
    return trial.model_copy(update={"runs": tuple(runs), "decided": decided, "undecided": tuple(undecided)})


def _decision(found: Sequence[Run], variant: Variant, trial: Trial) -> str:
    """What decides a variant; empty where nothing does. The first run is the accepted program's."""
    accepted, others = found[0], found[1:]
    if accepted.failed or not accepted.output.strip():
        return ""

    def as_accepted(text: str) -> bool:
        return outputs.same(text.encode(), accepted.output.encode(), trial.relation)

    if others:
        return (
            TWO_ANSWERS
            if any(not r.failed and as_accepted(r.output) for r in others) and all(r.failed or as_accepted(r.output) for r in others)
            else ""
        )
    if variant.foretold is not None and as_accepted(variant.foretold(trial.output)):
        return FORETOLD
    if variant.copies and _counted(accepted.output, trial) in _copied(trial, variant.copies):
        return SAME_LINES
    return ""


def _counted(text: str, trial: Trial) -> Counter[str]:
    return Counter(outputs.lines(text, columns=trial.relation == "columns"))


def _copied(trial: Trial, copies: int) -> tuple[Counter[str], Counter[str]]:
    """The visible output's lines, each so often; and with its first line once."""
    lines = outputs.lines(trial.output, columns=trial.relation == "columns")
    return Counter(lines * copies), Counter(lines[:1] + lines[1:] * copies)


async def _runs(box: Box, candidates: Sequence[Candidate], variant: Variant, output: str) -> list[Run]:
    jobs = [_Job(variant.name, at, candidate, variant.inputs, output) for at, candidate in enumerate(candidates)]
    await box.put(_archive(jobs), dest=ROOM)
    return [await _one(box, job) for job in jobs]


async def _one(box: Box, job: _Job) -> Run:
    shown = f" && cat -- '{job.output}'" if job.output else ""
    request = ExecRequest(
        shell=f"./{PROGRAM} < /dev/null{shown}",
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
    return Run(case=job.case, answer=job.candidate.solution.answer, output=result.stdout.decode(errors="replace"), failed=failed)


def _archive(jobs: Sequence[_Job]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for job in jobs:
            named = zip(job.candidate.solution.names, job.inputs, strict=True)
            files = {PROGRAM: job.candidate.text, **{name: each.text for name, each in named}}
            for name, text in files.items():
                data = text.encode()
                info = tarfile.TarInfo(f"{job.folder}/{name}")
                info.size, info.mode = len(data), 0o755 if name == PROGRAM else 0o644
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
