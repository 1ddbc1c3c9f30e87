"""A program that carries its data in itself, made to read them from a file. Pure; called by `understanding`.

Answers often set a list, a mapping or a string first and work on it then, or work on one that the question sets. The value becomes an input
file (JSON, or a line of text), and the program reads it there: so that it can be run on other values. Nothing else of it changes.
"""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from task_builders.questions import free_names, programs
from task_builders.questions.programs import Program

SHELL_SETS = re.compile(r"""^[ \t]*([A-Za-z_]\w*)=(?:"([^"$`\\\n]*)"|'([^'\n]*)')[ \t]*$""", re.MULTILINE)
SHELL_USES = re.compile(r"\$\{?([A-Za-z_]\w*)")
MIN_CHARACTERS = 2
"""Of a string that is data, and not a separator or an option."""


class Lifted(NamedTuple):
    """The program that reads a file, and that file."""

    program: Program
    file: str
    text: str


def set_by(texts: Iterable[str]) -> dict[str, Any]:
    """What blocks of a question set: names with their values."""
    found: dict[str, Any] = {}
    for text in texts:
        for match in SHELL_SETS.finditer(text):
            found[match[1]] = match[2] or match[3] or ""
        tree = programs.python_tree(text)
        found.update({name: value for node in (tree.body if tree else ()) for name, value in _assigned(node)})
    return {name: value for name, value in found.items() if _is_data(value)}


def lift(program: Program, given: Mapping[str, Any]) -> Lifted | None:
    """The program with its data in a file; None where it has none, or prints nothing.

    Args:
        program: one that names no file.
        given: what the question sets.
    """
    if program.kind == "python":
        return _python(program, given)
    return _shell(program, given) if program.kind == "shell" else None


def _python(program: Program, given: Mapping[str, Any]) -> Lifted | None:
    tree = programs.python_tree(program.text)
    if tree is None or not re.search(r"\bprint\(", program.text):
        return None
    free = free_names.of(tree)
    lines = program.text.splitlines(keepends=True)
    if free:
        if len(free) > 1 or free[0] not in given or isinstance(given[free[0]], str):
            return None
        return _reading(program, free[0], given[free[0]], "".join(lines))
    for node in tree.body:
        for name, value in _assigned(node):
            used = sum(isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load) for n in ast.walk(tree))
            if used and _is_data(value):
                rest = [*lines[: node.lineno - 1], *lines[node.end_lineno :]]
                return _reading(program, name, value, "".join(rest))
    return None


def _reading(program: Program, name: str, value: Any, rest: str) -> Lifted:
    """The reading stands first; what the program imports may follow."""
    file = f"{name}.json"
    text = f'import json\n{name} = json.load(open("{file}", encoding="utf-8"))\n{rest}'
    return Lifted(Program("python", text, program.printed), file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _assigned(node: ast.stmt) -> list[tuple[str, Any]]:
    """The name and value of `name = literal`."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
        return []
    try:
        return [(node.targets[0].id, ast.literal_eval(node.value))]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return []


def _is_data(value: Any) -> bool:
    """Whether it is worth a file, and survives one."""
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
            return Lifted(Program("shell", text, program.printed), f"{match[1]}.txt", value + "\n")
    unset = [name for name in used if name in given and isinstance(given[name], str) and not re.search(rf"\b{name}=", program.text)]
    if len(unset) != 1:
        return None
    file = f"{unset[0]}.txt"
    return Lifted(Program("shell", f"{unset[0]}=$(cat {file})\n{program.text}", program.printed), file, given[unset[0]] + "\n")
