"""Which parts of a Python file a fix touched, and how a function is written back after its tree was changed. Pure."""

import ast
import copy
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from task_builders.languages.python.named_tests import TestFunction as Function
from task_builders.languages.python.source_edits import Source
from task_builders.languages.python.syntax import tree_of


@dataclass(frozen=True)
class Hunk:
    """A run of differing lines, with line numbers from 0."""

    before: tuple[int, int]
    after: tuple[int, int]


def hunks(before: bytes, after: bytes) -> list[Hunk]:
    """The runs of lines in which two texts differ."""
    matcher = difflib.SequenceMatcher(None, before.splitlines(keepends=True), after.splitlines(keepends=True), autojunk=False)
    return [Hunk((a0, a1), (b0, b1)) for tag, a0, a1, b0, b1 in matcher.get_opcodes() if tag != "equal"]


def without_hunk(before: bytes, after: bytes, hunk: Hunk) -> bytes:
    """The text after the fix, with one hunk reverted."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return b"".join([*new[: hunk.after[0]], *old[hunk.before[0] : hunk.before[1]], *new[hunk.after[1] :]])


def touches(node: ast.stmt | ast.expr, changed: Sequence[Hunk]) -> bool:
    """Whether a node covers a line that the fix changed or added."""
    end = (node.end_lineno or node.lineno) - 1
    return any(node.lineno - 1 < hunk.after[1] and end >= hunk.after[0] for hunk in changed)


def functions(source: Source, changed: Sequence[Hunk]) -> list[Function]:
    """The innermost functions that contain changed lines."""
    found = [n for n in ast.walk(source.tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and touches(n, changed)]
    known = {id(f) for f in found}
    return [f for f in found if not any(inner is not f and id(inner) in known for inner in ast.walk(f))]


def replaced(source: Source, function: Function, new: Function) -> bytes | None:
    """The module with a function regenerated from its tree, its docstring's text kept; None if it would not parse to the same tree."""
    indent = " " * function.col_offset
    docstring = ast.get_docstring(function, clean=False) is not None
    head = ast.unparse(_with(new, decorators=[], body=[ast.Pass()])).rpartition("\n")[0]
    lines = [head]
    if docstring:
        lines.append("    " + source.text(function.body[0]).replace("\n", "\n\0"))
    for statement in new.body[1 if docstring else 0 :]:
        lines += ["    " + line for line in ast.unparse(statement).split("\n")]
    text = "\n".join(lines).replace("\n", "\n" + indent).replace(indent + "\0", "").replace("\0", "")
    data = source.edited([source.replace(function, text)])
    try:
        tree = tree_of(data)
    except (SyntaxError, ValueError):
        return None
    wanted = ast.dump(_with(new, decorators=function.decorator_list, body=new.body))
    same = (ast.dump(n) == wanted for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == new.name)
    return data if any(same) else None


def _with(function: Function, *, decorators: list[ast.expr], body: list[ast.stmt]) -> Function:
    node = copy.copy(function)
    node.decorator_list, node.body = decorators, body
    return ast.fix_missing_locations(node)
