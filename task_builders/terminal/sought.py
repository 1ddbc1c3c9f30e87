"""What a reference program looks for: numbers and texts that it compares with. Pure; called by `sufficiency`.

Nobody can know these from an example: of two rows that come out, one cannot see by which bound or word they were chosen. What a program
prints, cuts at or calculates with is another thing: that shows in the output.
"""

import ast
import re
from collections.abc import Iterator

from task_builders.questions import python_code

COMPARED = re.compile(r"(?:[<>]=?|[=!]=|-(?:eq|ne|lt|le|gt|ge))\s*-?(\d+(?:\.\d+)?)\b")
"""A number that a program of the shell, awk, jq or perl compares with."""
COMPARING = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "between", "isin", "clip", "cut", "head", "tail", "nlargest", "nsmallest"})
"""Functions and methods whose numbers bound values or rows."""
QUERIES = frozenset({"query", "eval"})
"""Methods of tables that take comparisons as a text."""
SEEKING = frozenset({"eq", "ne", "isin", "contains", "startswith", "endswith", "match", "fullmatch", "search", "findall", "count"})
"""Functions and methods whose texts choose values."""
SOUGHT = (
    re.compile(r"""(?:[=!]=|=~)\s*(?:"([^"\n]+)"|'([^'\n]+)')"""),
    re.compile(r"""\[\s[^\]\n]{0,80}?\s=\s*(?:"([^"\n]+)"|'([^'\n]+)'|([\w.]+))"""),
    re.compile(r"""!?~\s*/([^/\n]+)/"""),
    re.compile(r"""\b(?:contains|test|startswith|endswith|match|inside|index)\s*\(\s*["']([^"'\n]+)["']"""),
    re.compile(r"""\b[ef]?grep\s+(?:-\w+\s+)*(?:'([^'\n]+)'|"([^"\n]+)"|([\w.]+))"""),
)
"""A text that a program of the shell, awk, jq or perl compares or matches with; `=` compares in `[ … = … ]` alone."""
OF_PATTERNS = re.compile(r"\\.|\{[^}]*\}|\[[^\]]*\]|\(\?[a-zA-Z]+\)")
"""What in a regular expression stands for other texts."""


def numbers(program: str) -> set[str]:
    """The numbers that a program compares with, as texts and without their signs."""
    if (tree := _python(program)) is None:
        return set(COMPARED.findall(program))
    values = [value for side in _sides(tree, COMPARING) for value in _literals(side)]
    told = [each.value for node in _calls(tree) if _called(node) in QUERIES for each in _arguments(node) if isinstance(each, ast.Constant)]
    queried = {number for text in told if isinstance(text, str) for number in COMPARED.findall(text)}
    return queried | {repr(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)}


def words(program: str) -> set[str]:
    """The words of the texts that a program compares, contains or matches with."""
    if (tree := _python(program)) is None:
        found = {text for pattern in SOUGHT for match in pattern.finditer(program) for text in match.groups() if text and "$" not in text}
    else:
        found = {value for side in _sides(tree, SEEKING) for value in _literals(side) if isinstance(value, str)}
    return {word.casefold() for text in found for word in re.findall(r"[^\W_]+", OF_PATTERNS.sub(" ", text))}


def _python(program: str) -> ast.Module | None:
    return python_code.tree_of(program) if program.startswith("#!/usr/bin/env python") else None


def _sides(tree: ast.Module, called: frozenset[str]) -> list[ast.expr]:
    """Both sides of comparisons, and what some functions are given."""
    sides = [side for node in ast.walk(tree) if isinstance(node, ast.Compare) for side in (node.left, *node.comparators)]
    return sides + [each for node in _calls(tree) if _called(node) in called for each in _arguments(node)]


def _calls(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _literals(node: ast.expr) -> Iterator[object]:
    """What stands literally in an expression: a value, one behind a sign, or several in a list, tuple or set."""
    if isinstance(node, ast.UnaryOp):
        yield from _literals(node.operand)
    elif isinstance(node, ast.List | ast.Tuple | ast.Set):
        for each in node.elts:
            yield from _literals(each)
    elif isinstance(node, ast.Constant):
        yield node.value
