"""Finds the numbers and texts that a reference program compares with. Pure.

An example cannot reveal these: from two rows that are printed one cannot see the bound or word that selected them. What a program prints,
cuts at or calculates with does show in the output.
"""

import ast
import re
from collections.abc import Iterator

from task_builders.questions import python_code

COMPARED = re.compile(r"(?:[<>]=?|[=!]=|-(?:eq|ne|lt|le|gt|ge))\s*-?(\d+(?:\.\d+)?)\b")
"""A number that a program of the shell, awk, jq or perl compares with."""
COMPARING = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "between", "isin", "clip", "cut", "head", "tail", "nlargest", "nsmallest"})
"""Functions and methods whose numbers limit values or rows."""
QUERIES = frozenset({"query", "eval"})
"""Methods of tables that take comparisons as a string."""
SEEKING = frozenset({"eq", "ne", "isin", "contains", "startswith", "endswith", "match", "fullmatch", "search", "findall", "count"})
"""Functions and methods whose strings select values."""
SOUGHT = (
    re.compile(r"""(?:[=!]=|=~)\s*(?:"([^"\n]+)"|'([^'\n]+)')"""),
    re.compile(r"""\[\s[^\]\n]{0,80}?\s=\s*(?:"([^"\n]+)"|'([^'\n]+)'|([\w.]+))"""),
    re.compile(r"""!?~\s*/([^/\n]+)/"""),
    re.compile(r"""\b(?:contains|test|startswith|endswith|match|inside|index)\s*\(\s*["']([^"'\n]+)["']"""),
    re.compile(r"""\b[ef]?grep\s+(?:-\w+\s+)*(?:'([^'\n]+)'|"([^"\n]+)"|([\w.]+))"""),
)
"""A text that a program of the shell, awk, jq or perl compares or matches with; `=` compares in `[ … = … ]` only."""
OF_PATTERNS = re.compile(r"\\.|\{[^}]*\}|\[[^\]]*\]|\(\?[a-zA-Z]+\)")
"""Parts of a regular expression that stand for other text."""


def numbers(program: str) -> set[str]:
    """The numbers that a program compares with, as text and without sign."""
    if (tree := _python(program)) is None:
        return set(COMPARED.findall(program))
    values = [value for side in _sides(tree, COMPARING) for value in _literals(side)]
    told = [each.value for node in _calls(tree) if _called(node) in QUERIES for each in _arguments(node) if isinstance(each, ast.Constant)]
    queried = {number for text in told if isinstance(text, str) for number in COMPARED.findall(text)}
    return queried | {repr(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)}


def words(program: str) -> set[str]:
    """The words of the texts that a program compares or matches with."""
    if (tree := _python(program)) is None:
        found = {text for pattern in SOUGHT for match in pattern.finditer(program) for text in match.groups() if text and "$" not in text}
    else:
        found = {value for side in _sides(tree, SEEKING) for value in _literals(side) if isinstance(value, str)}
    return {word.casefold() for text in found for word in re.findall(r"[^\W_]+", OF_PATTERNS.sub(" ", text))}


def _python(program: str) -> ast.Module | None:
    return python_code.tree_of(program) if program.startswith("#!/usr/bin/env python") else None


def _sides(tree: ast.Module, called: frozenset[str]) -> list[ast.expr]:
    """Both sides of comparisons, and the arguments of the given functions."""
    sides = [side for node in ast.walk(tree) if isinstance(node, ast.Compare) for side in (node.left, *node.comparators)]
    return sides + [each for node in _calls(tree) if _called(node) in called for each in _arguments(node)]


def _calls(tree: ast.Module) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _literals(node: ast.expr) -> Iterator[object]:
    """The literals in an expression: a value, one with a sign, or several in a list, tuple or set."""
    if isinstance(node, ast.UnaryOp):
        yield from _literals(node.operand)
    elif isinstance(node, ast.List | ast.Tuple | ast.Set):
        for each in node.elts:
            yield from _literals(each)
    elif isinstance(node, ast.Constant):
        yield node.value
