"""A solution as one executable file that reads the input files and prints: it is used in trials and as the task's own solution. Pure.

For a piece of Python that works on variables, these are set from the files, and the value of the last statement is printed in the form that
the question shows (`Display`). Programs of awk, sed, jq and perl are put in a here-document.
"""

import ast
import re
from typing import Literal

from task_builders.questions import free_names, python_code
from task_builders.questions.joining import Solution
from task_builders.questions.programs import Program

Display = Literal["itself", "json", "plain", "lines", "table", "table with index", "table with named index", "column"]
"""How the last value of a piece of Python is printed; `itself`: the program prints."""
INTERPRETED = {"awk": "awk -f", "sed": "sed -f", "jq": "jq -f", "perl": "perl"}
END = "END_OF_PROGRAM"
LOADERS = {
    ".json": "{name} = json.load(open({file!r}, encoding='utf-8'))",
    ".csv": "{name} = pd.read_csv({file!r})",
    ".txt": "{name} = pd.read_csv({file!r}, sep=r'\\s+')",
    ".tsv": "{name} = pd.read_csv({file!r}, sep='\\t')",
}
LIBRARY = re.compile(r"\bpandas\b|\bpd\.|\bdf\w*[.\[]")
FILLS = frozenset({"append", "extend", "insert", "add", "update", "setdefault"})
"""Methods with which a loop fills a container."""
SHOWN = {
    "json": "print(json.dumps(result, ensure_ascii=False, default=lambda each: getattr(each, 'tolist', each.__str__)()))",
    "plain": "print(result)",
    "lines": "print(*result, sep='\\n')",
    "table": "print(result.to_string(index=False))",
    "table with index": "print(result.to_string())",
    "column": "print(*result, sep='\\n')",
    "table with named index": "print(result.reset_index().to_string(index=False))",
}


def tools_of(solution: Solution) -> tuple[str, ...]:
    """A solution's tools; a library that it is written around, or that reads its tables, replaces the language."""
    program = solution.program
    tables = solution.reads == "variables" and not all(name.endswith(".json") for name in solution.names)
    named = ["pandas"] if program.kind == "python" and (tables or LIBRARY.search(program.text)) else []
    return (*named, *program.tools)


def displays(solution: Solution) -> tuple[Display, ...]:
    """The ways in which a solution can print."""
    if solution.program.kind != "python" or _last_value(solution.program) is None:
        return ("itself",)
    tables: tuple[Display, ...] = ("table", "table with index", "table with named index") if "pandas" in tools_of(solution) else ()
    tables += ("column",) if _set_column(solution.program) else ()
    of_value: tuple[Display, ...] = ("json", *tables, "plain", "lines")
    return ("itself", *of_value) if _prints(solution.program) else of_value


def executable(solution: Solution, display: Display = "itself") -> str:
    """The text of the file."""
    program = solution.program
    fed = f"exec < {_quoted(solution.names[0])}\n" if solution.reads == "standard input" else ""
    if program.kind == "shell":
        return f"#!/bin/bash\n{fed}{program.text}"
    if program.kind == "python":
        return "#!/usr/bin/env python3\n" + _python(solution, display)
    names = " ".join(_quoted(name) for name in solution.names) if not fed else ""
    option = " -r" if program.kind == "jq" and display == "plain" else ""
    command = f"{INTERPRETED[program.kind].replace(' -f', option + ' -f')} /dev/fd/3 {names}".rstrip()
    return f"#!/bin/bash\n{fed}exec {command} 3<<'{END}'\n{program.text.rstrip()}\n{END}\n"


def _python(solution: Solution, display: Display) -> str:
    tree = python_code.tree_of(solution.program.text)
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} if tree else set()
    head: list[str] = []
    loaded_by: set[str] = set()
    if solution.reads == "variables":
        loading = [(name, name.rpartition(".")[0], "." + name.rpartition(".")[2]) for name in solution.names]
        loaded_by = {"json" if suffix == ".json" else "pd" for *_, suffix in loading}
        head = [LOADERS[suffix].format(name=name, file=file) for file, name, suffix in loading]
    used |= {"json"} if display == "json" else set()
    imports = [line for name, line in free_names.USUAL_IMPORTS.items() if name in loaded_by or (name in used and not _sets(tree, name))]
    body = solution.program.text if display == "itself" else _with_result(solution.program, display)
    return "\n".join([*imports, *head, body.rstrip("\n"), ""])


def _sets(tree: ast.Module | None, name: str) -> bool:
    """Whether the program already imports it."""
    found = (n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)) if tree else ()
    return any((alias.asname or alias.name) == name for node in found for alias in node.names)


def _prints(program: Program) -> bool:
    return "print(" in program.text


def _last_value(program: Program) -> tuple[ast.stmt, str] | None:
    """The last statement, and the source text of its value."""
    tree = python_code.tree_of(program.text)
    if tree is None or not tree.body:
        return None
    last = tree.body[-1]
    if isinstance(last, ast.Assign | ast.AugAssign):
        target = last.targets[0] if isinstance(last, ast.Assign) else last.target
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
        return (last, target.id) if isinstance(target, ast.Name) else None
    if isinstance(last, ast.For | ast.While):
        name = _filled(last)
        return (last, name) if name else None
    if not isinstance(last, ast.Expr):
        return None
    value = last.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
        if len(value.args) != 1 or value.keywords:
            return None
        value = value.args[0]
    return last, ast.unparse(value)


def _filled(loop: ast.stmt) -> str:
    """The name of the container that a loop fills or changes last; empty if the loop only prints."""
    found = ""
    for node in ast.walk(loop):
        if isinstance(node, ast.Assign | ast.AugAssign):
            target: ast.expr = node.targets[0] if isinstance(node, ast.Assign) else node.target
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FILLS:
            target = node.func.value
        else:
            continue
        while isinstance(target, ast.Subscript | ast.Attribute):
            target = target.value
        found = target.id if isinstance(target, ast.Name) else found
    return found


def _set_column(program: Program) -> str:
    """The table column that a program sets last; empty if it sets none."""
    tree = python_code.tree_of(program.text)
    targets = [node.targets[0] for node in (tree.body if tree else ()) if isinstance(node, ast.Assign)]
    named = [each for each in targets if isinstance(each, ast.Subscript) and isinstance(each.value, ast.Name)]
    return next((ast.unparse(each) for each in reversed(named) if isinstance(each.slice, ast.Constant)), "")


def _with_result(program: Program, display: Display) -> str:
    found = _last_value(program)
    if found is None:
        return program.text
    last, value = found
    value = _set_column(program) if display == "column" else value
    lines = program.text.splitlines()
    before = lines[: last.lineno - 1] if isinstance(last, ast.Expr) else lines
    return "\n".join([*before, f"result = {value}", SHOWN[display]])


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "'\\''") + "'"
