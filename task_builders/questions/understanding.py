"""A question to what a task could be made of: files in, a program, text out; or the first reason why not. Pure, without a language model.

Called by the pipeline's screening. It reads the question's blocks by their roles, takes the accepted answer's programs apart, and joins the
files that a program reads with the blocks that show them. Whether the program really prints what the asker wants is for a box to say.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from envfarm.core.question import Answer, Question
from task_builders.questions import blocks, free_names, literals, programs, roles
from task_builders.questions.blocks import Block, Prose
from task_builders.questions.programs import Program
from task_builders.questions.roles import Role, Told
from task_builders.questions.tools import tool

PART = "the program is a part of one: it works on variables that it does not set"
INPUT_NAME = "input.txt"
"""Of a file that no one names."""
STAND_IN = re.compile(r"your|some|my|cmd|command|prog|generat|produc", re.IGNORECASE)
"""In the name of a command that stands for whatever gives the input."""
NEAR = 80
"""Characters of prose between a program and what it prints, at most: `which gives:`."""
READERS = frozenset({"open", "read_csv", "read_table", "read_json", "read_fwf", "loadtxt", "genfromtxt", "parse", "Path", "FileInput"})
"""Python's functions whose first argument names a file."""
LIBRARY = re.compile(r"\bpandas\b|\bpd\.|\bdf\w*[.\[]")
ABBREVIATED = re.compile(r"^\s*(?:\.{3,}|…|etc\.?|\[\.\.\.\]|\(\.\.\.\)|<\.\.\.>)\s*$|\.{3}$", re.MULTILINE)
NAME = re.compile(
    r"\b[\w-]+\.(?:txt|csv|tsv|json|log|xml|ya?ml|dat|html|ini|conf|in|out|md|list)\b|\b(?:file|input)[ _-]?\w{0,2}\b", re.IGNORECASE
)


class InputFile(NamedTuple):
    """A file that the agent finds."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Solution:
    """A program of an answer, and as what it reads the question's input files."""

    answer: int
    program: Program
    names: tuple[str, ...]
    """The name of each input file, in the order of the question's input blocks."""
    reads: Literal["files", "standard input", "variables"] = "files"
    """How it has them. `variables` are values that a piece of Python works on: a file's name without its ending is then the variable's."""
    own: tuple[InputFile, ...] = ()
    """The input files, where the program carried its data in itself; the question's otherwise."""


@dataclass(frozen=True, slots=True)
class Understood:
    """What a task could be made of."""

    inputs: tuple[InputFile, ...]
    wanted: tuple[tuple[Literal["asker", "answer"], str], ...]
    """Outputs that are shown, and by whom: the asker's, the nearest to the question's end first; then the accepted answer's own. None where
    answers must agree on what is wanted."""
    state: Literal["standard output", "files"]
    """What is compared: what the program prints, or what it leaves in its file."""
    solutions: tuple[Solution, ...]
    """The accepted answer's programs first."""
    tools: tuple[str, ...]
    packages: tuple[str, ...]
    """Debian's, that the programs need."""
    words: str = ""
    """The asker's, title and prose."""

    @property
    def output(self) -> str:
        """The file that is compared, where a program leaves one; its output otherwise."""
        return _changed_file(self.solutions[0].program) if self.state == "files" else ""

    @property
    def desired(self) -> str:
        """The first of the outputs that are shown."""
        return self.wanted[0][1] if self.wanted else ""

    @property
    def witness(self) -> str:
        """Who shows it."""
        return self.wanted[0][0] if self.wanted else "two answers"

    @property
    def independent(self) -> int:
        """How many answers have a program for it."""
        return len({s.answer for s in self.solutions})


class Misfit(NamedTuple):
    """Why a question is no task."""

    reason: str
    """One of few."""
    detail: str = ""


def understand(question: Question) -> Understood | Misfit:
    """What a question's task could be made of, or the first reason against it."""
    shown = roles.told(blocks.pieces(question.body))
    found = _programs(question.answers[0])
    if misfit := _unusable(question, shown, found):
        return misfit
    inputs = [each for each in shown if each.role is Role.INPUT]
    given = literals.set_by(each.block.text for each in shown)
    outcomes = [_solution(a, p, inputs, given) for a in question.answers for p in (found if a.accepted else _programs(a))]
    solutions = _alike([each for each in outcomes if isinstance(each, Solution)])
    if not solutions or solutions[0].answer != question.answers[0].id:
        return _without_input(shown, found) or next(each for each in outcomes if isinstance(each, Misfit))
    wanted = _wanted(shown, solutions)
    if not wanted and len({s.answer for s in solutions}) == 1:
        return Misfit("no desired output is shown")
    texts = [each.block.text for each in inputs] if not solutions[0].own else []
    wanted = tuple(pair for pair in wanted if not ABBREVIATED.search(pair[1]))
    if (not wanted and len({s.answer for s in solutions}) == 1) or any(ABBREVIATED.search(text) for text in texts):
        return Misfit("input or output is abbreviated")
    return Understood(
        inputs=solutions[0].own or tuple(InputFile(n, text) for n, text in zip(solutions[0].names, texts, strict=True)),
        wanted=wanted,
        state=_state(solutions[0]),
        solutions=tuple(solutions),
        tools=tools_of(solutions[0].program),
        words="\n".join([question.title, *(p.text for p in blocks.pieces(question.body) if isinstance(p, Prose))]),
        packages=tuple(sorted({known.package for s in solutions for n in _started(s.program) if (known := tool(n))})),
    )


def _wanted(shown: Sequence[Told], solutions: Sequence[Solution]) -> tuple[tuple[Literal["asker", "answer"], str], ...]:
    """What the asker shows to be wanted, then what the accepted answer shows that it prints."""
    asked = [programs.unmarked(each.block.text) for each in reversed(shown) if each.role is Role.OUTPUT]
    printed = [s.program.printed for s in solutions if s.answer == solutions[0].answer and s.program.printed]
    found: dict[str, Literal["asker", "answer"]] = dict.fromkeys(asked, "asker")
    found |= {text: "answer" for text in printed if text not in found}
    return tuple((who, text) for text, who in found.items())


def _started(program: Program) -> tuple[str, ...]:
    """Every command that a program starts, whether or not it is about it."""
    return (*program.tools, *(command.name for command in program.commands))


def tools_of(program: Program) -> tuple[str, ...]:
    """A program's tools; a library that it is written around stands for the language."""
    named = ["pandas"] if program.kind == "python" and LIBRARY.search(program.text) else []
    return (*named, *program.tools)


def _programs(answer: Answer) -> list[Program]:
    """An answer's programs. A block of data right after one is what it prints."""
    found: list[Program] = []
    between = 0
    for piece in blocks.pieces(answer.body):
        if isinstance(piece, Prose):
            between += len(piece.text)
            continue
        if here := programs.parse(piece.text, piece.language):
            found += here
        elif found and not found[-1].printed and between <= NEAR:
            found[-1] = replace(found[-1], printed=programs.unmarked(piece.text))
        between = 0
    return found


def _unusable(question: Question, shown: Sequence[Told], found: Sequence[Program]) -> Misfit | None:
    """What speaks against it before programs are joined with blocks: what is missing."""
    code = next((p.text for p in blocks.pieces(question.answers[0].body) if isinstance(p, Block)), "")
    foreign = programs.unfit(code) if not found else ""
    unfit = found[0].unfit if found and all(program.unfit for program in found) else foreign
    faults = (
        (not shown, "the question shows no block", ""),
        (not code, "the accepted answer has no code", ""),
        (bool(unfit), f"the answer's program: {unfit}", code[:200]),
        (not found, "the answer's code is no program that is known here", code[:80]),
    )
    return next((Misfit(reason, detail) for holds, reason, detail in faults if holds), None)


def _without_input(shown: Sequence[Told], found: Sequence[Program]) -> Misfit | None:
    """Why nothing can be read, where the question shows no input."""
    has = {each.role for each in shown}
    if Role.INPUT in has:
        return None
    if all("git" in program.tools for program in found):
        return Misfit("it is about a repository's state, and shows none")
    return Misfit("no input is shown", "though a desired output is" if Role.OUTPUT in has else "and no desired output")


def _alike(solutions: Sequence[Solution]) -> list[Solution]:
    """Those that work on the same data as the first: programs may carry others."""
    texts = [tuple(each.text for each in solution.own) for solution in solutions]
    return [solution for solution, own in zip(solutions, texts, strict=True) if own == texts[0]]


def _solution(answer: Answer, program: Program, inputs: Sequence[Told], given: Mapping[str, Any]) -> Solution | Misfit:
    """A program with the names under which it reads the inputs; or, where it reads none of them, with its own data in a file."""
    if program.unfit:
        return Misfit(f"the answer's program: {program.unfit}", program.text[:200])
    found = _reading(answer, program, inputs)
    if isinstance(found, Misfit) and (lifted := literals.lift(program, given)):
        own = tuple(InputFile(*each) for each in lifted.files)
        reads: Literal["files", "variables"] = "variables" if program.kind == "python" else "files"
        return Solution(answer.id, lifted.program, tuple(each.name for each in own), reads=reads, own=own)
    return found


def _reading(answer: Answer, program: Program, inputs: Sequence[Told]) -> Solution | Misfit:
    if program.kind == "shell":
        return _of_shell(answer, _without_stand_in(program), inputs)
    if program.kind == "python":
        return _of_python(answer, program, inputs)
    if program.kind in ("awk", "sed", "jq") and inputs:
        return Solution(answer.id, program, tuple(_own_names(inputs)))
    return Misfit("a table of a database would have to be made") if program.kind == "sql" else Misfit(PART, program.text[:80])


def _of_shell(answer: Answer, program: Program, inputs: Sequence[Told]) -> Solution | Misfit:
    if unknown := [c.name for c in program.commands if tool(c.name) is None]:
        return Misfit("a command is not known here", ", ".join(unknown[:5]))
    return _fed_or_joined(answer, program, _read_by_shell(program), inputs)


def _of_python(answer: Answer, program: Program, inputs: Sequence[Told]) -> Solution | Misfit:
    tree = programs.python_tree(program.text)
    if tree is None:
        return Misfit("the program is no Python 3", program.text[:80])
    if _only_shows(tree):
        return Misfit("the program only shows a variable", program.text[:80])
    if free := free_names.of(tree):
        return _of_variables(answer, program, free, inputs)
    return _fed_or_joined(answer, program, _read_by_python(tree), inputs)


def _fed_or_joined(answer: Answer, program: Program, reads: Sequence[str], inputs: Sequence[Told]) -> Solution | Misfit:
    if not reads and len(inputs) == 1 and _reads_standard_input(program):
        return Solution(answer.id, program, tuple(_own_names(inputs)), reads="standard input")
    return _joined(answer, program, reads, inputs)


def _joined(answer: Answer, program: Program, reads: Sequence[str], inputs: Sequence[Told]) -> Solution | Misfit:
    """By the names that the text gives to its blocks; by their order where it names none of them."""
    if not reads:
        return Misfit("the program reads nothing that the question shows", program.text[:80])
    if any(name.startswith(("/", "~", "..")) for name in reads):
        return Misfit("it reads files of another machine", ", ".join(reads))
    named = [_plain(name) for name in _own_names(inputs)]
    by_name = {_plain(read): read for read in reads}
    if len(reads) == len(inputs):
        if all(name in by_name for name in named) and len(set(named)) == len(named):
            return Solution(answer.id, program, tuple(by_name[name] for name in named))
        return Solution(answer.id, program, tuple(reads))
    return Misfit("which block is which file cannot be told", f"{len(inputs)} blocks, and it reads {', '.join(reads)}")


def _own_names(inputs: Sequence[Told]) -> list[str]:
    """What the text calls its input files; each has a name of its own."""
    names: list[str] = []
    for at, each in enumerate(inputs):
        said = [m[0].replace(" ", "") for m in NAME.finditer(each.lead)]
        last = said[-1] if said and re.search(r"\d|\.|\w$", said[-1]) else ""
        names.append(
            last if last and last not in names and last.casefold() not in ("file", "files", "input") else _numbered(at, len(inputs))
        )
    return names


def _numbered(at: int, count: int) -> str:
    return INPUT_NAME if count == 1 else f"input{at + 1}.txt"


def _plain(name: str) -> str:
    return re.sub(r"\.\w+$|[ _-]", "", name.casefold())


def _without_stand_in(program: Program) -> Program:
    """`your_command | awk …` without its first part: what comes before the pipe stands for the input."""
    first = program.commands[:2]
    if len(first) < 2 or not first[1].piped or tool(first[0].name) is not None:  # noqa: PLR2004 - a command and the one after it
        return program
    if len(first[0].words) == 1 or STAND_IN.search(first[0].name):
        return Program(program.kind, program.text.partition("|")[2].lstrip(), program.printed)
    return program


def _read_by_shell(program: Program) -> tuple[str, ...]:
    """Files that are read before anything in the program wrote them."""
    written: set[str] = set()
    reads: dict[str, None] = {}
    for command in program.commands:
        reads.update(dict.fromkeys(name for name in command.reads if name not in written))
        written.update(command.writes)
    return tuple(reads)


def _only_shows(tree: ast.Module) -> bool:
    """`print(df)`, or `df` alone, as transcripts have between their outputs."""
    values = [node.value for node in tree.body if isinstance(node, ast.Expr)]
    shown = [v.args[0] if isinstance(v, ast.Call) and _called(v) == "print" and v.args else v for v in values]
    return len(values) == len(tree.body) and all(isinstance(each, ast.Name) for each in shown)


def _of_variables(answer: Answer, program: Program, free: Sequence[str], inputs: Sequence[Told]) -> Solution | Misfit:
    """A part of a program that works on tables which the question shows, under their names or, where it names none, in their order."""
    tables = [each for each in inputs if _is_table(each.block.text)]
    if len(tables) != len(inputs) or len(free) != len(inputs):
        words = f"{len(inputs)} blocks, of which {len(tables)} are tables; it works on {', '.join(free)}"
        return Misfit(PART, words)
    said = [next((name for name in free if re.search(rf"\b{re.escape(name)}\b", each.lead)), "") for each in inputs]
    names = said if len(set(said)) == len(said) and all(said) else list(free)
    return Solution(answer.id, program, tuple(f"{name}.txt" for name in names), reads="variables")


def _is_table(text: str) -> bool:
    """Rows of as many columns as the first, or of one more (an index)."""
    rows = [line.split() for line in text.splitlines() if line.strip()]
    widths = [len(row) for row in rows]
    return len(rows) > 1 and all(width - widths[0] in (0, 1) for width in widths) and max(widths) > 0


def _read_by_python(tree: ast.Module) -> tuple[str, ...]:
    """The constants that it opens to read."""
    reads: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in READERS and node.args:
            first, mode = node.args[0], node.args[1] if len(node.args) > 1 else None
            writes = isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x")
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and not writes:
                reads[first.value] = None
    return tuple(reads)


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _reads_standard_input(program: Program) -> bool:
    if program.kind == "python":
        return bool(re.search(r"\bsys\.stdin\b|\bfileinput\.input\(\)", program.text))
    first = program.commands[:1]
    known = tool(first[0].name) if first and "<<" not in program.text else None
    return known is not None and known.transforms and first[0].name not in ("find", "git", "make", "seq", "python", "sqlite3")


def _state(solution: Solution) -> Literal["standard output", "files"]:
    return "files" if _in_place(solution.program) else "standard output"


def _in_place(program: Program) -> bool:
    """Whether it changes its files, and prints nothing: `sed -i`, `perl -i`, `> file` at the end."""
    found = program.commands
    edits = any(c.name == "sponge" for c in found) or any(
        c.name in ("sed", "perl") and any(re.match(r"-[a-zA-Z0]*i", w) for w in c.words[1:]) for c in found
    )
    return edits or bool(found and found[-1].writes)


def _changed_file(program: Program) -> str:
    """The file that a program changes or writes last."""
    for command in reversed(program.commands):
        if command.writes:
            return command.writes[-1]
        if command.name in ("sed", "perl") and command.reads:
            return command.reads[-1]
        if command.name == "sponge":
            return command.words[-1]
    return ""
