"""Which parts of a Python file a fix touched. Pure."""

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from task_builders.languages.python.named_tests import TestFunction as Function
from task_builders.languages.python.source_edits import Source


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
