"""Joins a program with the question's blocks: which of its files or variables is which block. Pure.

If this is ambiguous (which of two tables, spaces that may have been tabs, data that both question and answer set), it returns every likely
reading, the likeliest first; running them in a box shows which one prints what is wanted.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice, pairwise
from typing import Any, Literal, NamedTuple

from task_builders.questions import free_names, literals, python_code
from task_builders.questions.programs import Program
from task_builders.questions.roles import RoledBlock
from task_builders.questions.tools import tool

PART = "the program is a fragment: it uses variables that it does not set"
ASKER = 0
"""Used instead of an answer's id: the program is the asker's own."""
INPUT_NAME = "input.txt"
"""Name of a file that nobody names."""
STAND_IN = re.compile(r"your|some|my|cmd|command|prog|generat|produc", re.IGNORECASE)
"""In a command's name: the command stands for whatever produces the input."""
FETCHERS = frozenset({"curl", "wget", "http"})
"""Commands that fetch the input; the question shows what they fetch."""
VARIABLE_FED = re.compile(
    r"""^\s*(?:echo|printf\s+['"]%s(?:\\n)?['"])\s+"?\$\{?\w+\}?"?\s*\|\s*|[ \t]*<<<[ \t]*(?:"\$\{?\w+\}?"|\$\{?\w+\}?)[ \t]*$""",
    re.MULTILINE,
)
"""`echo $NAME |` or `<<< $NAME`: if nothing sets the variable, it is the input that the question shows."""
PLACES = re.compile(r"(?<![\w.])(?:~|\.{1,2}|/(?:tmp|home|path|root|data|mnt|Users|your|some)\b)/(?:[\w.-]+/)*(?=[\w-]+\.\w+)")
"""Directories of the writer's machine before a file's name."""
COLUMN = re.compile(r"""\w\[\s*["'](\w+)["']\s*\]$""")
"""A column of a table, at the end of the words before a block."""
MAX_CHOICES = 4
"""Maximum number of ways to choose among the tables shown."""
READERS = frozenset({"open", "read_csv", "read_table", "read_json", "read_fwf", "loadtxt", "genfromtxt", "parse", "Path", "FileInput"})
"""Python functions whose first argument names a file."""
NAME = re.compile(
    r"\b[\w-]+\.(?:txt|csv|tsv|json|log|xml|ya?ml|dat|html|ini|conf|in|out|md|list)\b|\b(?:file|input)[ _-]?\w{0,2}\b", re.IGNORECASE
)


CELL_NAME = re.compile(r"#?\w[\w.%/()#-]*")
"""The name at the head of a column: one word, and no sign of a program."""
CELL = re.compile(r"\S+(?: \S+)*")
"""A cell of a table whose cells are separated by two blanks or more."""
FILE = re.compile(r"[\w-]+\.(?:txt|csv|tsv|json|log|xml|ya?ml|dat)")


class InputFile(NamedTuple):
    """A file that the agent finds."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Solution:
    """A program of an answer, and how it reads the input files."""

    answer: int
    """The answer's id; `ASKER` for the asker's own program."""
    program: Program
    names: tuple[str, ...]
    """The name of each input file."""
    texts: tuple[str, ...]
    """The text of each input file: a block of the question, or data that the question or the program sets."""
    reads: Literal["files", "standard input", "variables"] = "files"
    """How the program gets them. `variables`: it is a piece of Python that works on values; a file's stem is then the variable's name."""

    @property
    def files(self) -> tuple[InputFile, ...]:
        """The input files under the names that this program reads."""
        return tuple(map(InputFile, self.names, self.texts))

    @property
    def in_order(self) -> bool:
        """Whether the order of its files counts: a program of awk, sed or jq alone gets them in turn."""
        return len(self.names) > 1 and self.program.kind in ("awk", "sed", "jq", "perl")

    def ordered(self, texts: Sequence[str]) -> "Solution":
        """The same with its files in the order of these texts."""
        left = list(zip(self.names, self.texts, strict=True))
        files = [left.pop(next(n for n, (_, text) in enumerate(left) if text == wanted)) for wanted in texts]
        return replace(self, names=tuple(name for name, _ in files), texts=tuple(texts))


class Misfit(NamedTuple):
    """Why a question is no task."""

    reason: str
    """One of a few fixed texts."""
    detail: str = ""


Joined = list[Solution] | Misfit


def solutions(answer: int, program: Program, inputs: Sequence[RoledBlock], given: Mapping[str, Any]) -> Joined:
    """The ways in which a program reads what the question shows, the likeliest first; or why it reads none of it.

    Args:
        answer: id of the program's answer.
        program: one of its programs.
        inputs: the question's input blocks.
        given: what the question's own code sets.
    """
    if program.unfit:
        return Misfit(f"the answer's program: {program.unfit}", program.text[:200])
    found = _reading(answer, program, inputs, given)
    if isinstance(found, Misfit) or all(each.reads == "variables" for each in found):
        reads: Literal["files", "variables"] = "variables" if program.kind == "python" else "files"
        lifted = literals.lift(program, given, literals.unnamed(each.block.text for each in inputs))
        set_in_code = [Solution(answer, e.program, *_unzipped(e.files), reads=reads) for e in lifted if not _only_shows(e.program)]
        fed = [each for solution in set_in_code for each in _on_the_question(solution, inputs)] if isinstance(found, Misfit) else []
        found = [*(() if isinstance(found, Misfit) else found), *fed, *set_in_code] or found
    if isinstance(found, Misfit) and program.kind == "shell" and VARIABLE_FED.search(program.text):
        found = _reading(answer, replace(program, text=VARIABLE_FED.sub("", program.text, count=1)), inputs, given)
    if isinstance(found, Misfit) and (bare := literals.without_readers(program)) is not None:
        tree = python_code.tree_of(bare.text)
        found = _of_variables(answer, bare, free_names.of(tree), inputs, given) if tree else found
    return [*found, *_tabbed(found), *_with_row_names(found)] if isinstance(found, list) else found


def _only_shows(program: Program) -> bool:
    """Whether a piece of Python only prints what it is given: answers show their data like this before they solve anything."""
    tree = python_code.tree_of(program.text) if program.kind == "python" else None
    return tree is not None and all(isinstance(node, ast.Import | ast.ImportFrom) or python_code.shows(node) for node in tree.body)


def _on_the_question(solution: Solution, inputs: Sequence[RoledBlock]) -> list[Solution]:
    """A program that works on data of its own, on what the question shows instead: text for text, a table for a table."""
    if len(solution.names) != 1:
        return []
    stem, _, suffix = solution.names[0].rpartition(".")
    if solution.reads != "variables":
        return [replace(solution, texts=_texts(inputs))] if len(inputs) == 1 else []
    tables = [found for each in inputs if (found := table(each.block.text)) is not None]
    return (
        [replace(solution, names=(f"{stem}{end}",), texts=(text,)) for end, text in tables] if len(tables) == 1 and suffix == "csv" else []
    )


def _unzipped(files: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(name for name, _ in files), tuple(text for _, text in files)


def _tabbed(found: Sequence[Solution]) -> list[Solution]:
    """The same with tabs where the site shows several spaces, for programs that use tabs: the site's blocks contain none."""
    return [
        replace(each, texts=tuple(with_tabs(text) for text in each.texts))
        for each in found
        if "\\t" in each.program.text and each.reads != "variables" and not any("\t" in text for text in each.texts)
    ]


def _with_row_names(found: Sequence[Solution]) -> list[Solution]:
    """The same with the table's first column as the names of its rows, if it can be that: its cells are different words."""
    more: list[Solution] = []
    for each in found:
        tables = [n for n, name in enumerate(each.names) if each.reads == "variables" and not name.endswith(".json")]
        if len(tables) == 1 and _names_rows(each.names[tables[0]], each.texts[tables[0]]):
            name = each.names[tables[0]].partition(".")[0]
            text = f"{name} = {name}.set_index({name}.columns[0])\n{each.program.text}"
            more.append(replace(each, program=replace(each.program, text=text)))
    return more


def _names_rows(file: str, text: str) -> bool:
    separator = {".csv": ",", ".tsv": "\t"}.get(file[-4:])
    first = [line.split(separator)[0] for line in text.splitlines() if line.strip()][1:]
    return len(first) > 1 and len(set(first)) == len(first) and all(word[:1].isalpha() for word in first)


def with_tabs(text: str) -> str:
    """The text with a tab for each run of spaces between words."""
    return re.sub(r"(?<=\S) {2,}(?=\S)", "\t", text)


def _texts(inputs: Sequence[RoledBlock]) -> tuple[str, ...]:
    return tuple(each.block.text for each in inputs)


def _reading(answer: int, program: Program, inputs: Sequence[RoledBlock], given: Mapping[str, Any]) -> Joined:
    if program.kind == "shell":
        return _of_shell(answer, program, inputs)
    if program.kind == "python":
        return _of_python(answer, program, inputs, given)
    if program.kind in ("awk", "sed", "jq") and inputs:
        return [Solution(answer, program, tuple(_own_names(inputs)), _texts(inputs))]
    return Misfit("it needs a database table") if program.kind == "sql" else Misfit(PART, program.text[:80])


def _of_shell(answer: int, program: Program, inputs: Sequence[RoledBlock]) -> Joined:
    if unknown := [c.name for c in program.commands if tool(c.name) is None]:
        return Misfit("it uses an unknown command", ", ".join(unknown[:5]))
    return _fed_or_joined(answer, program, _read_by_shell(program), inputs)


def _of_python(answer: int, program: Program, inputs: Sequence[RoledBlock], given: Mapping[str, Any]) -> Joined:
    tree = python_code.tree_of(program.text)
    if tree is None:
        return Misfit("the program is not Python 3", program.text[:80])
    if all(python_code.shows(node) for node in tree.body):
        return Misfit("the program only shows a variable", program.text[:80])
    if free := free_names.of(tree):
        return _of_variables(answer, program, free, inputs, given)
    if reads := _read_by_python(tree):
        return _fed_or_joined(answer, program, reads, inputs)
    program, reads = _with_all_files(program, tree, [name for name in _own_names(inputs) if FILE.fullmatch(name)])
    return _fed_or_joined(answer, program, reads, inputs)


def _fed_or_joined(answer: int, program: Program, reads: Sequence[str], inputs: Sequence[RoledBlock]) -> Joined:
    if not reads and len(inputs) == 1 and _reads_standard_input(program):
        return [Solution(answer, program, tuple(_own_names(inputs)), _texts(inputs), reads="standard input")]
    return _joined(answer, program, reads, inputs)


def _joined(answer: int, program: Program, reads: Sequence[str], inputs: Sequence[RoledBlock]) -> Joined:
    """Join by the names that the text gives its blocks; if it names none, by order."""
    if not reads:
        return Misfit("the program reads nothing that the question shows", program.text[:80])
    if any(name.startswith(("/", "~", "..")) for name in reads):
        return Misfit("it reads files of the writer's machine", ", ".join(reads))
    by_name = {_plain(read): read for read in reads}
    named = [(by_name[name], each) for name, each in zip(map(_plain, _own_names(inputs)), inputs, strict=True) if name in by_name]
    if len(named) == len(reads) == len({name for name, _ in named}):
        return [Solution(answer, program, tuple(name for name, _ in named), _texts([each for _, each in named]))]
    if len(reads) <= len(inputs):
        chosen = islice(combinations(inputs, len(reads)), MAX_CHOICES)
        return [Solution(answer, program, tuple(reads), _texts(some)) for some in chosen]
    return Misfit("it is unclear which block is which file", f"{len(inputs)} blocks, and it reads {', '.join(reads)}")


def _own_names(inputs: Sequence[RoledBlock]) -> list[str]:
    """The names that the text gives its input files; numbered ones for files without a name of their own."""
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


def without_stand_in(program: Program) -> Program:
    """`your_command | awk …` without its first part: the command before the pipe stands for the input."""
    first = program.commands[:2]
    if len(first) < 2 or not first[1].piped or tool(first[0].name) is not None:  # noqa: PLR2004 - a command and the one after it
        return program
    if len(first[0].words) == 1 or STAND_IN.search(first[0].name) or first[0].name in FETCHERS:
        return Program(program.kind, program.text.partition("|")[2].lstrip(), program.printed)
    return program


def _read_by_shell(program: Program) -> tuple[str, ...]:
    """Files that the program reads before it writes them."""
    written: set[str] = set()
    reads: dict[str, None] = {}
    for command in program.commands:
        reads.update(dict.fromkeys(name for name in command.reads if name not in written))
        written.update(command.writes)
    return tuple(reads)


def here(program: Program) -> Program:
    """The program with its files in the directory where it is started."""
    return replace(program, text=PLACES.sub("", program.text))


def _of_variables(answer: int, program: Program, free: Sequence[str], inputs: Sequence[RoledBlock], given: Mapping[str, Any]) -> Joined:
    """A fragment that works on tables shown by the question (by their names or, if unnamed, in any order) and on what the question's code
    sets.
    """
    tables = [(each, *shown) for each in inputs if (shown := _column(each) or table(each.block.text)) is not None]
    extra = [name for name in free if name in given] if len(free) > len(tables) else []
    named = [name for name in free if name not in extra]
    if not tables or not named or len(named) > len(tables):
        words = f"{len(inputs)} blocks, of which {len(tables)} are tables; it works on {', '.join(free)}"
        return Misfit(PART, words)
    more = [literals.as_file(name, given[name]) for name in extra]
    found: list[Solution] = []
    for some in islice(combinations(tables, len(named)), MAX_CHOICES):
        said = [next((name for name in named if re.search(rf"\b{re.escape(name)}\b", each.lead)), "") for each, *_ in some]
        is_named = len(set(said)) == len(said) and all(said)
        for names in [said] if is_named else [list(named), list(reversed(named))][: len(named)]:
            files = [(f"{name}{suffix}", text) for name, (_, suffix, text) in zip(names, some, strict=True)]
            found.append(Solution(answer, program, *_unzipped([*files, *more]), reads="variables"))
    return found


def _column(shown: RoledBlock) -> tuple[str, str] | None:
    """The block as a table of one column, if the words right before it call it a column (`df["name"]`) and the block lacks the name."""
    words = shown.lead.rstrip(" `:.\n").splitlines()
    match = COLUMN.search(words[-1]) if words else None
    rows = [line.strip() for line in shown.block.text.splitlines() if line.strip()]
    if match is None or not rows or match[1] in rows[0] or any(" " in row for row in rows):
        return None
    return ".csv", literals.Table((match[1],), tuple((row,) for row in rows)).text


def table(text: str) -> tuple[str, str] | None:
    """The block as a table file with its suffix: cells separated by spaces, or by tabs if they contain spaces. None if it is no table."""
    if _is_table([line.split() for line in text.splitlines() if line.strip()]):
        return ".txt", text
    tabbed = with_tabs("".join(f"{line.strip()}\n" for line in text.splitlines()))
    cells = [line.split("\t") for line in tabbed.splitlines() if line.strip()]
    plain = cells and _is_table(cells, least=2) and not any(" " in name for name in cells[0])
    if not plain and (aligned := _between_gaps(text) or _below_names(text)):
        return ".csv", aligned
    return (".tsv", tabbed) if _is_table(cells, least=2) else None


def _between_gaps(text: str) -> str:
    """Cells between columns of blanks as CSV, also if they contain spaces or are empty; empty if the lines have no such columns."""
    lines = _table_lines(text)
    width = max(map(len, lines), default=0)
    blank = [all(len(line) <= at or line[at] == " " for line in lines) for at in range(width)]
    edges = [at for at in range(width) if not blank[at] and (at == 0 or blank[at - 1])] + [width]
    return _as_csv([[line[a:b].strip() for a, b in pairwise(edges)] for line in lines])


def _below_names(text: str) -> str:
    """Cells that each stand below one name of the first line as CSV; empty if one stands below several. Cells to the left of the first
    name are a column without a name.
    """
    lines = _table_lines(text)
    names = list(CELL_NAME.finditer(lines[0])) if lines else []
    rows = [["", *(name[0] for name in names)]]
    for line in lines[1:]:
        row = [""] * len(rows[0])
        for cell in CELL.finditer(line):
            above = [n for n, name in enumerate(names, 1) if name.start() < cell.end() and cell.start() < name.end()]
            if not above and names and cell.end() <= names[0].start():
                above = [0]
            if len(above) != 1 or row[above[0]]:
                return ""
            row[above[0]] = cell[0]
        rows.append(row)
    return _as_csv(rows if any(row[0] for row in rows) else [row[1:] for row in rows])


def _table_lines(text: str) -> list[str]:
    return [line.expandtabs().rstrip() for line in text.splitlines() if line.strip()]


def _as_csv(rows: list[list[str]]) -> str:
    """The rows as CSV, without an unnamed first column that counts them; empty if the first row are no names of columns."""
    if len(rows) < 2 or len(rows[0]) < 2:  # noqa: PLR2004 - a header and a row, two columns
        return ""
    if not rows[0][0] and [row[0] for row in rows[1:]] == [str(n) for n in range(len(rows) - 1)]:
        rows = [row[1:] for row in rows]
    names = rows[0]
    if len(set(names)) < len(names) or not all(CELL_NAME.fullmatch(name) for name in names):
        return ""
    return literals.Table(tuple(names), tuple(map(tuple, rows[1:]))).text


def _is_table(rows: Sequence[Sequence[str]], least: int = 1) -> bool:
    """Whether the rows after the first all have as many columns as the first, or all have one more (an index)."""
    widths = [len(row) for row in rows]
    return len(rows) > 1 and min(widths) >= least and len(set(widths[1:])) == 1 and widths[1] - widths[0] in (0, 1)


def _read_by_python(tree: ast.Module) -> tuple[str, ...]:
    """The constant file names that it opens for reading."""
    reads: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) in READERS and node.args:
            first, mode = node.args[0], node.args[1] if len(node.args) > 1 else None
            writes = isinstance(mode, ast.Constant) and str(mode.value)[:1] in ("w", "a", "x")
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and not writes:
                reads[first.value] = None
    return tuple(reads)


def _with_all_files(program: Program, tree: ast.Module, shown: Sequence[str]) -> tuple[Program, tuple[str, ...]]:
    """The names in a list, if the program opens files that it does not name itself. A list of some of the files shown stands for all."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _called(n) in READERS and n.args]
    if not any(isinstance(each.args[0], ast.Name) for each in calls):
        return program, ()
    for node in ast.walk(tree):
        values = [e.value for e in node.elts if isinstance(e, ast.Constant)] if isinstance(node, ast.List | ast.Tuple) else []
        listed = tuple(dict.fromkeys(value for value in values if isinstance(value, str) and FILE.fullmatch(value)))
        written = ast.get_source_segment(program.text, node) if set(listed) < set(shown) else None
        if written and isinstance(node, ast.List):
            return replace(program, text=program.text.replace(written, repr(list(shown)))), tuple(shown)
        if listed:
            return program, listed
    return program, ()


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _reads_standard_input(program: Program) -> bool:
    if program.kind == "python":
        return bool(re.search(r"\bsys\.stdin\b|\bfileinput\.input\(\)", program.text))
    first = program.commands[:1]
    known = tool(first[0].name) if first and "<<" not in program.text else None
    return known is not None and known.transforms and first[0].name not in ("find", "git", "make", "seq", "python", "sqlite3")
