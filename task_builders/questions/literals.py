"""Moves the data that a program carries in itself to files. Pure.

Answers often first set a list, a mapping, a table or a string and then work on it, or work on what the question sets. Each such value
becomes an input file (JSON, CSV, or a line of text) and its assignment is removed, so that the program can run on other values. `scripts`
turns a file back into a variable. The rest of the program stays unchanged.
"""

import ast
import csv
import io
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from task_builders.questions import free_names, programs, python_code
from task_builders.questions.programs import Program

SHELL_SETS = re.compile(r"""^[ \t]*([A-Za-z_]\w*)=(?:"([^"$`\\\n]*)"|'([^'\n]*)')[ \t]*$""", re.MULTILINE)
_HERE = r"<<-?[ \t]*['\"]?(?P<end>\w+)['\"]?[ \t]*"
_HERE_DATA = r"(?P<data>(?:[^$`\n]*\n)+?)[ \t]*(?P=end)[ \t]*$\n?"
_FED_TOOLS = r"(?:awk|sed|grep|jq|sort|tr|cut|perl|column|paste|uniq)"
FED = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"""^[ \t]*echo[ \t]+(?P<q>["'])(?P<data>(?:(?!(?P=q))[^$`\\\n])+)(?P=q)[ \t]*(?:\\\n[ \t]*)?\|(?P<rest>)""",
        rf"^[ \t]*cat(?:[ \t]+-)?[ \t]*{_HERE}\|(?P<rest>[^\n]*?(?:\\\n[^\n]*?)*\n){_HERE_DATA}",
        rf"^(?P<rest>[ \t]*{_FED_TOOLS}\b[^\n]*?)[ \t]*{_HERE}\n{_HERE_DATA}",
        rf"""^(?P<rest>[ \t]*{_FED_TOOLS}\b[^\n]*?)[ \t]*<<<[ \t]*(?P<q>["'])(?P<data>(?:(?!(?P=q))[^$`\\])+)(?P=q)""",
    )
)
"""A text that `echo`, a here-document or a here-string feeds to a command, without variables in it."""
FED_FILE = "input.txt"
SHELL_USES = re.compile(r"\$\{?([A-Za-z_]\w*)")
TABLE_READERS = frozenset({"read_csv", "read_table", "read_excel", "read_fwf"})
GAPS = frozenset({r"\s+", r"\s\s+", r"\s{2,}", " +", "  +"})
"""Separators of a table's cells that are patterns."""
LAYOUT = frozenset({"sep", "delimiter", "delim_whitespace", "engine"})
"""Arguments that only say how a table is written."""
MIN_WORDS = 3
"""A string of fewer words is not data if there are lists or mappings."""
MIN_CHARACTERS = 2
"""A shorter string is a separator or an option, not data."""
UNREADABLE = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, LookupError, csv.Error)
"""What code that is no literal raises."""


@dataclass(frozen=True, slots=True)
class Table:
    """The value of `pd.DataFrame(…)`, or of a table that is read from a text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def text(self) -> str:
        """As CSV with a header."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if each is None else each for each in row] for row in self.rows)
        return out.getvalue()


class DataFile(NamedTuple):
    """A value as a file; the file's stem is the variable's name."""

    name: str
    text: str


class Lifted(NamedTuple):
    """The program without its data, and the data as files."""

    program: Program
    files: tuple[DataFile, ...]


def set_by(texts: Iterable[str]) -> dict[str, Any]:
    """What the question's blocks set: names with their values, tables included; the first value of each. Blocks may hold outputs, too."""
    found: dict[str, Any] = {}
    for text in texts:
        for match in SHELL_SETS.finditer(text):
            found.setdefault(match[1], match[2] or match[3] or "")
        if programs.kind_of(text) not in ("python", ""):
            continue
        for piece in python_code.trees(text):
            for node in piece.body:
                found = {**dict(_assigned(node, found)), **found}
    return {name: value for name, value in found.items() if _is_data(value)}


def unnamed(texts: Iterable[str]) -> list[Any]:
    """The lists and mappings that the question shows without a name: blocks that are one literal each."""
    found: list[Any] = []
    for tree in (python_code.tree_of(text.strip()) for text in texts):
        if tree and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
            with suppress(*UNREADABLE):
                found.append(_value(tree.body[0].value, {}))
    return [value for value in found if isinstance(value, list | dict) and _is_data(value)]


def lift(program: Program, given: Mapping[str, Any], shown: Sequence[Any] = ()) -> list[Lifted]:
    """The program with its data in files: first with the question's values, then with its own. Empty if it has no data.

    Args:
        program: one that names no file.
        given: what the question sets.
        shown: what it shows without a name; this stands for the program's only value of the same shape.
    """
    if program.kind == "python":
        own = _python(program, given)
        asked = _python(program, given, shown, prefer_given=True)
        return [each for each in dict.fromkeys((asked, own)) if each is not None]
    lifted = _shell(program, given) if program.kind == "shell" else None
    return [lifted] if lifted else []


def without_readers(program: Program) -> Program | None:
    """A piece of Python without the lines that read a table from a file: the variables are given instead. None if there is no such line."""
    tree = python_code.tree_of(program.text) if program.kind == "python" else None
    lines = program.text.splitlines(keepends=True)
    changed = False
    for node in tree.body if tree else ():
        call = node.value if isinstance(node, ast.Assign) and len(node.targets) == 1 else None
        if not isinstance(call, ast.Call) or _last_name(call.func) not in TABLE_READERS or not isinstance(node.targets[0], ast.Name):  # type: ignore[attr-defined]
            continue
        name = node.targets[0].id  # type: ignore[attr-defined]
        indexed = any(k.arg == "index_col" and isinstance(k.value, ast.Constant) and k.value.value == 0 for k in call.keywords)
        lines[node.lineno - 1 : node.end_lineno] = ["\n"] * ((node.end_lineno or node.lineno) - node.lineno + 1)
        lines[node.lineno - 1] = f"{name} = {name}.set_index({name}.columns[0])\n" if indexed else "\n"
        changed = True
    return Program("python", "".join(lines).strip("\n") + "\n", program.printed) if changed else None


def _python(program: Program, given: Mapping[str, Any], shown: Sequence[Any] = (), *, prefer_given: bool = False) -> Lifted | None:
    tree = python_code.tree_of(program.text)
    if tree is None:
        return None
    own, gone = _own_data(tree)
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    lines = program.text.splitlines(keepends=True)
    kept = "".join(line for at, line in enumerate(lines, 1) if not any(a <= at <= b for a, b in gone))
    rest = python_code.tree_of(kept)
    if rest is None:
        return None
    free = free_names.of(rest)
    tables = [value for value in given.values() if isinstance(value, Table)]
    only = tables[0] if len(tables) == 1 and len(free) == 1 else None
    known = {**own, **_of_same_shape(own, shown), **given} if prefer_given else {**given, **own}
    values = {name: known.get(name, only) for name in free}
    if not free or not all(_is_data(value) for value in values.values()) or not any(name in used for name in values):
        return None
    files = tuple(as_file(name, value) for name, value in values.items())
    return Lifted(Program("python", kept, program.printed), files)


def _of_same_shape(own: Mapping[str, Any], shown: Sequence[Any]) -> dict[str, Any]:
    """Names of values → what is shown of the same shape, where only one value and only one thing shown have it."""
    shapes = [_shape(value) for value in own.values()]
    pairs = ((name, [each for each in shown if _shape(each) == _shape(value)]) for name, value in own.items())
    return {name: alike[0] for name, alike in pairs if len(alike) == 1 and shapes.count(_shape(alike[0])) == 1}


def _shape(value: Any) -> Any:
    """What two values have in common that differ in their words, numbers and lengths alone."""
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items()}
    return [_shape(each) for each in value[:1]] if isinstance(value, list) else type(value)


def _own_data(tree: ast.Module) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """What its own statements set and later ones use, with their lines: containers and tables; strings only if there are none of these."""
    found: dict[str, tuple[Any, tuple[int, int]]] = {}
    known: dict[str, Any] = {}
    for node in tree.body:
        for name, value in _assigned(node, known):
            known[name] = value
            again = sum(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store) for n in ast.walk(tree)) > 1
            if _is_data(value) and not again:
                found[name] = (value, (node.lineno, node.end_lineno or node.lineno))
    others = [node for node in tree.body if not _assigned(node, known)]
    used = {n.id for node in others for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    large = {name for name, (value, _) in found.items() if not isinstance(value, str)} & used
    words = {name for name, (value, _) in found.items() if isinstance(value, str) and len(value.split()) >= MIN_WORDS}
    chosen = {name: found[name] for name in found if name in used and (name in large | words or not large)}
    parts = [n for n in found if n not in chosen and any(isinstance(v, Table) for v, _ in chosen.values())]
    gone = [lines for _, lines in chosen.values()] + [found[name][1] for name in parts if name not in used]
    return {name: value for name, (value, _) in chosen.items()}, gone


def as_file(name: str, value: Any) -> DataFile:
    """A value as a file from which it can be read back."""
    if isinstance(value, Table):
        return DataFile(f"{name}.csv", value.text)
    return DataFile(f"{name}.json", json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _assigned(node: ast.stmt, known: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The name and value of `name = literal`, of `name = DataFrame(literal)`, or of a table that is read from a literal."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
        return []
    with suppress(*UNREADABLE):
        return [(node.targets[0].id, _value(node.value, known))]
    return []


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Call):
        return _created(node, known) if _last_name(node.func) == "DataFrame" else _written_table(node, known)
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    if isinstance(node, ast.Attribute) and node.attr in ("nan", "NaN", "NA"):
        return None
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each, known) for each in node.elts]
    if isinstance(node, ast.Dict):
        return {_value(k, known): _value(v, known) for k, v in zip(node.keys, node.values, strict=True) if k is not None}
    return ast.literal_eval(node)


def _last_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _table(data: Any, columns: Any) -> Table:
    if isinstance(data, dict) and data and all(isinstance(v, list) for v in data.values()):
        named = columns or list(data)
        return Table(tuple(map(str, named)), tuple(zip(*(data[name] for name in named), strict=True)))
    if isinstance(data, list) and data and all(isinstance(row, dict) for row in data):
        named = columns or list(data[0])
        return Table(tuple(map(str, named)), tuple(tuple(row.get(name) for name in named) for row in data))
    if isinstance(data, list) and data and columns and all(isinstance(row, list) and len(row) == len(columns) for row in data):
        return Table(tuple(map(str, columns)), tuple(map(tuple, data)))
    raise ValueError("not a readable table")


def _created(node: ast.Call, known: Mapping[str, Any]) -> Table:
    columns = next((_value(k.value, known) for k in node.keywords if k.arg == "columns"), None)
    if any(k.arg not in ("columns", "data") for k in node.keywords):
        raise ValueError("a table with arguments other than data and columns")
    data = [*(_value(a, known) for a in node.args), *(_value(k.value, known) for k in node.keywords if k.arg == "data")]
    return _table(data[0], columns)


def _written_table(node: ast.Call, known: Mapping[str, Any]) -> Table:
    """The value of `read_csv(StringIO(text), sep=…)`. Raises `ValueError` or `KeyError` for other calls."""
    usual = {"read_csv": ",", "read_table": "\t"}[_last_name(node.func)]
    source = node.args[0] if len(node.args) == 1 else None
    options = {k.arg or "": ast.literal_eval(k.value) for k in node.keywords}
    if not isinstance(source, ast.Call) or _last_name(source.func) != "StringIO" or len(source.args) != 1 or options.keys() - LAYOUT:
        raise ValueError("not a table in a text")
    lines = [line.strip() for line in str(_value(source.args[0], known)).splitlines() if line.strip()]
    separator = r"\s+" if options.get("delim_whitespace") else options.get("sep", options.get("delimiter", usual))
    rows = [re.split(separator, line) for line in lines] if separator in GAPS else list(csv.reader(lines, delimiter=separator))
    if {len(row) for row in rows[1:]} == {len(rows[0]) + 1} and [row[0] for row in rows[1:]] == [str(n) for n in range(len(rows) - 1)]:
        rows[1:] = [row[1:] for row in rows[1:]]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):  # noqa: PLR2004 - a header and a row
        raise ValueError("not a readable table")
    return Table(tuple(rows[0]), tuple(map(tuple, rows[1:])))


def _is_data(value: Any) -> bool:
    """Whether the value is worth a file and can be read back unchanged."""
    if isinstance(value, Table):
        return bool(value.rows)
    if isinstance(value, str):
        return len(value) >= MIN_CHARACTERS
    if not isinstance(value, list | dict) or not value:
        return False
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False


def _shell(program: Program, given: Mapping[str, Any]) -> Lifted | None:
    used = set(SHELL_USES.findall(program.text))
    for match in SHELL_SETS.finditer(program.text):
        value = match[2] or match[3] or ""
        if match[1] in used and _is_data(value):
            reading = f"{match[1]}=$(cat {match[1]}.txt)"
            text = program.text[: match.start()] + reading + program.text[match.end() :]
            return Lifted(Program("shell", text, program.printed), (DataFile(f"{match[1]}.txt", value + "\n"),))
    for pattern in FED:
        if fed := pattern.search(program.text):
            text = program.text[: fed.start()] + f"cat {FED_FILE} |" + fed["rest"] + program.text[fed.end() :]
            data = textwrap.dedent(fed["data"]) if "<<-" in fed[0] else fed["data"]
            return Lifted(Program("shell", text, program.printed), (DataFile(FED_FILE, data.rstrip("\n") + "\n"),))
    unset = [name for name in used if isinstance(given.get(name), str) and not re.search(rf"\b{name}=", program.text)]
    if len(unset) != 1:
        return None
    file = f"{unset[0]}.txt"
    return Lifted(Program("shell", f"{unset[0]}=$(cat {file})\n{program.text}", program.printed), (DataFile(file, given[unset[0]] + "\n"),))
