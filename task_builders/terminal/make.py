"""Makes a terminal task of a question and its trial. Pure.

The instruction is the asker's text without what gives the solution away, with the input files named, the wanted output shown, and what is
to be written where. Author, licence and address are in the task's attribution, which the agent does not see.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from envfarm.core.plan import Case, TestCommand, TestPlan
from envfarm.core.question import Answer, Credit, Question
from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from envfarm.core.task import Attribution, Limits, Task
from envfarm.images.tarball import Entry, pack
from task_builders.questions import blocks, starting
from task_builders.questions.blocks import Block, Piece, Prose
from task_builders.questions.held_out import Example
from task_builders.questions.joining import ASKER, InputFile
from task_builders.questions.roles import Role, RoledBlock, with_roles
from task_builders.questions.starting import IN_REPOSITORIES
from task_builders.questions.trial import VISIBLE, Decided, Trial
from task_builders.questions.understanding import Understood
from task_builders.terminal import giveaways, repository_words, sufficiency

WORK_DIR = "/app"
PROGRAM = "solve"
CASE = "case::"
"""Prefix of a variant's name in the id of its case."""
CASE_S = 20.0
LIBRARIES = ("numpy==1.26.4", "pandas==1.5.3", "python-dateutil==2.9.0.post0", "pytz==2024.2", "six==1.16.0")
"""Libraries for programs that use pandas; others get only the interpreter. This is the last pandas with everything that answers of all
years use: newer ones removed positional arguments and whole functions.
"""
RESOLVED_AT = datetime(2025, 1, 1, tzinfo=UTC)
"""Date of these pins; nothing else is resolved, and tasks with the same tools share a layer. Also the date of tasks whose source has none.
"""
LAYOUT = {
    "exact": "Output is compared byte for byte.",
    "lines": "White space at the ends of lines does not count.",
    "columns": "How much blank stands between words does not count.",
    "rows": "How much blank stands between words and the order of the rows below the header do not count.",
    "json": "The output is compared as JSON: its layout does not count.",
    "table": "The output is compared as a table under its header: how much blank stands between words, the order of rows and the order of "
    "columns do not count.",
}
SOLVE = f"""#!/bin/sh
# Puts the reference program where the task wants it.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cp "$here/program" {WORK_DIR}/{PROGRAM}
chmod 755 {WORK_DIR}/{PROGRAM}
"""
OTHERS = "The program is then run on other files of the same names and the same form: other values, other order, more or fewer records."
CHANGES = "The question was shortened, links were removed, and what is to be written was added; the answer's program was adapted."
"""What a task changes in the texts that it is made of."""
SHOWN_LINES, SHOWN_CHARACTERS = 40, 4000
"""How much is shown of a file that the question does not show itself; the rest is in the file."""
ABOUT_CODE = re.compile(
    r"\b(?:this|that|these|my|(?:the )?(?:above|below|following|previous))\s+(?:\w+\s+)?"
    r"(?:codes?|scripts?|commands?|attempts?|programs?|function|query|snippet|one-liner)\b"
    r"|\b(?:code|script|command|attempt|program|function|query|snippet)\s+(?:above|below)\b",
    re.IGNORECASE,
)
"""A sentence that refers to the asker's code."""
ABOUT_RESULT = re.compile(
    r"^(?:but |however,? |and |yet )*(?:it|this|that|which)\b[^.?!]*"
    r"\b(?:did|does|do|is|was|gives?|gave|prints?|returns?|works?|worked|fails?|failed|outputs?|results?)\b",
    re.IGNORECASE,
)
"""A sentence right after what is left out that reports its result."""
NO_VALUE = re.compile(r"(?<!\S)NaN(?!\S)")
INTRODUCES = re.compile(
    r":$|\b(?:is|are|was|did|do|as|with|this|these)$"
    r"|\b(?:follow\w*|below|like this|here|tried|us(?:ed|ing)|wrote|codes?|commands?|scripts?)\b[^.?!]{0,40}$",
    re.IGNORECASE,
)
"""A sentence that introduces what follows, and says nothing without it."""
NAME_ALONE = re.compile(r"(?:and )?`?[\w./-]+`?")
LABEL = re.compile(r"(?:[^\s:]+\s+){0,3}[^\s:]+:")
"""A paragraph that says nothing without what follows."""
UNFINISHED = re.compile(r":$")
SENTENCE = re.compile(r"(?<=[.?!:])\s+(?=[A-Z`])")
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"(?:https?://|www\.)\S+")


def recipe(understood: Understood, python: str) -> Recipe:
    """The environment shared by all tasks with the same tools; `python` is an available version."""
    wants_pandas = any("pandas" in each.tools for each in (understood, *understood.otherwise))
    install = "uv pip install -q --no-config --compile-bytecode --python /opt/venv/bin/python -r /opt/requirements.txt"
    steps = (InstallStep(run='uv venv -q --no-config --python "$PYTHON" /opt/venv'), InstallStep(run=install)) if wants_pandas else ()
    return Recipe(
        language="shell",
        toolchain=Toolchain(name="python", version=python),
        system_packages=tuple(p for p in understood.packages if p not in ("bash", "coreutils", "python3")),
        dependencies=steps,
        files={"/opt/requirements.txt": "\n".join(LIBRARIES) + "\n"} if wants_pandas else {},
        work_dir=WORK_DIR,
        resolved_at=RESOLVED_AT,
    )


def checkout(understood: Understood) -> bytes:
    """An archive of the visible input files, rooted at `/`."""
    return pack(Entry(f"{WORK_DIR.strip('/')}/{each.name}", content=each.text.encode()) for each in understood.inputs)


def task(question: Question, understood: Understood, trial: Trial, built_of: Recipe, name: str, *, text: str = "") -> Task:
    """The task, with all its cases expected to pass. `text` is its instruction if this is not made of the asker's words."""
    visible = Decided(inputs=tuple(map(tuple, understood.inputs)), output=trial.output, by=trial.witness)
    cases, tests = [], dict[str, bytes]()
    for n, (label, each) in enumerate({VISIBLE: visible, **trial.decided}.items()):
        folder = f"{n:02d}"
        names = tuple(path for path, _ in each.inputs)
        cases.append(Case(f"{CASE}{label}", folder, names, trial.relation, understood.output, visible=label == VISIBLE))
        tests |= {f"cases/{folder}/input/{path}": text.encode() for path, text in each.inputs}
        tests[f"cases/{folder}/expected"] = each.output.encode()
    script = f'exec ./{PROGRAM} > "$1" < /dev/null'
    if understood.output:
        script = f'./{PROGRAM} < /dev/null && /bin/cat -- "$2" > "$1"'
    if understood.state in IN_REPOSITORIES:
        script = f'exec > "$1"\n{starting.shell(understood.state, PROGRAM, "")}'
    argv = ("/bin/sh", "-c", script, "sh", "{report}", *([understood.output] if understood.output else []))
    plan = TestPlan(
        work_dir=WORK_DIR,
        commands=(TestCommand(argv, "output", CASE_S, {"LC_ALL": "C.UTF-8"}),),
        fail_to_pass=tuple(case.id for case in cases),
        pass_to_pass=(),
        test_files=(),
        mode="replayed",
        cases=tuple(cases),
    )
    return Task(
        name=name,
        kind="terminal",
        language="shell",
        instruction=text or instruction(question, understood, trial),
        created_at=question.credit.created_at or RESOLVED_AT,
        attribution=attribution(question, trial.answer),
        recipe=built_of,
        plan=plan,
        limits=Limits(memory_mib=1024, disk_mib=1024, pids=256, verifier_s=600.0),
        solution={"solve.sh": SOLVE.encode(), "program": trial.program.encode()},
        tests=tests,
        keywords=understood.tools[:3],
    )


def example(task: Task, case: Case) -> Example:
    """The inputs of a task's case, and its expected output."""
    given = {path: task.tests[f"cases/{case.folder}/input/{path}"].decode() for path in case.inputs}
    return Example(given, task.tests[f"cases/{case.folder}/expected"].decode())


def attribution(question: Question, answer: int = 0) -> Attribution:
    """The authors of the task's text and program."""
    whose = next((each for each in question.answers if each.id == answer), question.answers[0])
    return credited(question, (whose,), CHANGES)


def credited(question: Question, answers: Sequence[Answer], changes: str) -> Attribution:
    """The authors of a question and of answers, in the strictest form: the licences of all."""
    licence = " AND ".join(dict.fromkeys([question.credit.licence, *(each.credit.licence for each in answers)]))
    authors = [f"question: {_author(question.credit)}", *(f"answer, {each.credit.url}: {_author(each.credit)}" for each in answers)]
    return Attribution(licence=licence, author="; ".join(authors), url=question.url, changes=changes)


def _author(credit: Credit) -> str:
    """The author with a link, as the site's terms require, and the editors of the text."""
    named = f"{credit.author or 'unknown'}{f' ({credit.author_url})' if credit.author_url else ''}"
    return f"{named}, edited by {', '.join(credit.editors)}" if credit.editors else named


def instruction(question: Question, understood: Understood, trial: Trial) -> str:
    """The instruction for the agent, in the asker's words."""
    asked = _askers_part(question, understood, _known(understood, trial))
    return whole(question.title, asked, understood, trial, said=_words_of_attempts(question, understood, trial))


def whole(title: str, asked: str, understood: Understood, trial: Trial, *, said: str = "") -> str:
    """An instruction: what is asked for, then what is to be written, the example, and what else counts (`said` before the rest of it)."""
    to_write, now, others = _to_write(understood)
    blank = "A cell without a value is written as `NaN`. " if NO_VALUE.search(trial.output) else ""
    shown = f"{now} the result is:\n\n```\n{trial.output.rstrip()}\n```"
    return "\n".join(
        [
            f"# {LINK.sub('', title).strip()}",
            "",
            asked,
            "",
            giveaways.TO_WRITE,
            "",
            f"Write an executable program `{WORK_DIR}/{PROGRAM}`, in any language that is installed here. {to_write}",
            "",
            shown,
            "",
            others,
            f"{said}{blank}{LAYOUT[trial.relation]} Only what lies below `{WORK_DIR}` is kept.",
            "",
        ]
    )


def _to_write(understood: Understood) -> tuple[str, str, str]:
    """How the program is started, for what the result is shown, and what else it is run on."""
    if understood.state in IN_REPOSITORIES:
        return repository_words.to_write(understood, WORK_DIR), "For the repository as it is made now", repository_words.OTHERS
    names = [f"`{WORK_DIR}/{each.name}`" for each in understood.inputs]
    files = f"the file {names[0]}" if len(names) == 1 else f"the files {', '.join(names[:-1])} and {names[-1]}"
    result = f"leaves its result in `{WORK_DIR}/{understood.output}`" if understood.output else "prints its result to standard output"
    now = "For the file as it is now" if len(names) == 1 else "For the files as they are now"
    return f"It is started in\n`{WORK_DIR}` without arguments, reads {files}, and {result}, with exit status 0.", now, OTHERS


def _known(understood: Understood, trial: Trial) -> tuple[str, ...]:
    """Programs that solve the task or were meant to: those of the answers, and working ones of the asker."""
    return (trial.program, *trial.others, *trial.askers, *(s.program.text for s in understood.solutions if s.answer != ASKER))


def _words_of_attempts(question: Question, understood: Understood, trial: Trial) -> str:
    """Name the words to be printed that only an attempt of the asker contains: the attempt, which is left out, may be the only place that
    tells them.
    """
    shown = blocks.pieces(question.body)
    prose = "\n".join([question.title, *(p.text for p in shown if isinstance(p, Prose))])
    tried = {w.casefold() for each in with_roles(shown) if each.role is Role.ATTEMPT for w in sufficiency.WORD.findall(each.block.text)}
    named = [w for w in sufficiency.unheard(trial.output, (each.text for each in understood.inputs), prose) if w in tried]
    return f"Of the words of the result these stand in no file: {', '.join(named)}. " if named else ""


def _askers_part(question: Question, understood: Understood, known: Sequence[str]) -> str:
    """The asker's prose without sentences that give away a known program; those blocks that show data, under the names of their files; then
    the files that no block shows.
    """
    pieces = blocks.pieces(question.body)
    shown = _shown_by(pieces, understood)
    inputs = {_spaced(each.text): each for each in understood.inputs}
    names = [each.name for each in understood.inputs]
    all_shown = all(data for piece, data in zip(pieces, shown, strict=True) if isinstance(piece, Block))
    parts: list[tuple[str, Piece]] = []
    behind = False
    for piece, data, after in zip(pieces, shown, (*pieces[1:], None), strict=True):
        if isinstance(piece, Block):
            for text in data:
                file = inputs.get(_spaced(text))
                parts.append((_fenced(file.text, file.name) if file else _fenced(text, ""), piece))
            if not data and not behind:
                _drop_introduction(parts, INTRODUCES)
            behind = not data
        else:
            only_links = piece.link and not isinstance(after, Block)
            sentences = [] if only_links else _without_giveaways(_sentences(piece), known, names)
            said = LINK.sub("", " ".join(sentences if all_shown else _without_pointers(sentences, behind=behind)))
            parts += [(said, piece)] if said else []
            if not said:
                _drop_introduction(parts, UNFINISHED)
            behind = behind and not said
    while parts and isinstance(parts[-1][1], Prose) and LABEL.fullmatch(parts[-1][0]):
        parts.pop()
    seen = {_spaced(text) for data in shown for text in data}
    return "\n\n".join([*(text for text, _ in parts), *(of_file(each) for each in understood.inputs if _spaced(each.text) not in seen)])


def _shown_by(pieces: Sequence[Piece], understood: Understood) -> list[list[str]]:
    """What each block shows of the data: itself, or what a session in it prints. Nothing for prose and for blocks that are left out."""
    inputs = {_spaced(each.text) for each in understood.inputs}
    left, whole = list(with_roles(pieces)), {id(piece) for piece in pieces}
    found: list[list[str]] = []
    for piece in pieces:
        taken: list[RoledBlock] = []
        if at := [n for n, each in enumerate(left) if each.block is piece]:
            taken, left = [left[at[0]]], left[at[0] + 1 :]
        while left and id(left[0].block) not in whole and " ".join(left[0].block.text.split()) in " ".join(piece.text.split()):
            taken.append(left.pop(0))
        shown = [each.block.text for each in taken if each.role in (Role.INPUT, Role.OUTPUT) or _spaced(each.block.text) in inputs]
        found.append(shown if isinstance(piece, Block) else [])
    return found


def _without_giveaways(sentences: Sequence[str], known: Sequence[str], names: Sequence[str]) -> list[str]:
    """The sentences without those whose code is a known program, and without what introduces these."""
    kept: list[str] = []
    gone = False
    for sentence in reversed(sentences):
        told = any(giveaways.gives_away(code, known, names) for code in INLINE.findall(sentence))
        gone = told or (gone and UNFINISHED.search(sentence) is not None)
        kept += [] if gone else [sentence]
    return kept[::-1]


def _drop_introduction(parts: list[tuple[str, Piece]], introduces: re.Pattern[str]) -> None:
    """Drop what introduces something that is left out: the last sentence, a name alone before a block, what introduces that in turn, and
    the heading, if nothing else stands below it.
    """
    while parts and isinstance(parts[-1][1], Prose) and not parts[-1][1].heading:
        text, piece = parts[-1]
        *others, last = SENTENCE.split(text)
        if not (introduces.search(last) or (introduces is INTRODUCES and NAME_ALONE.fullmatch(text))):
            return
        while others and UNFINISHED.search(others[-1]):
            others.pop()
        parts[-1:] = [(" ".join(others), piece)] if others else []
        if others:
            return
        introduces = UNFINISHED
    while parts and isinstance(parts[-1][1], Prose) and parts[-1][1].heading:
        parts.pop()


def _spaced(text: str) -> str:
    """The text with single spaces: files may have tabs where the site shows spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def _sentences(prose: Prose) -> list[str]:
    """The sentences of a paragraph. What looks like an end inside code is none."""
    ends = [m.span() for m in SENTENCE.finditer(prose.text) if prose.text.count("`", 0, m.start()) % 2 == 0]
    return [prose.text[a:b] for (_, a), (b, _) in pairwise([(0, 0), *ends, (len(prose.text), 0)])]


def _without_pointers(sentences: Sequence[str], *, behind: bool) -> list[str]:
    """The sentences without those that refer to code which is left out; a sentence that contains its code stays."""
    kept: list[str] = []
    for sentence in sentences:
        follows = behind and not kept and ABOUT_RESULT.search(sentence)
        if "`" in sentence or not (follows or ABOUT_CODE.search(sentence)):
            kept.append(sentence)
    return kept


def of_file(each: InputFile) -> str:
    """A file's text, or where it is and how it begins."""
    first = "".join(each.text.splitlines(keepends=True)[:SHOWN_LINES])[:SHOWN_CHARACTERS]
    if first == each.text:
        return _fenced(first, each.name)
    return f"`{each.name}` is in `{WORK_DIR}`, and begins so:\n```\n{first.rstrip()}\n```"


def _fenced(text: str, name: str) -> str:
    return (f"`{name}`:\n" if name else "") + f"```\n{text.rstrip()}\n```"
