"""Recognizes Python 3 in posts, as opposed to outputs and other languages, and splits it where outputs stand between. Pure. Must not run
anything.
"""

import ast
import re
from collections.abc import Sequence

from task_builders.languages.python import syntax

MAX_LINES = 200
"""Maximum length of a text that is split line by line."""
PYTHON_2 = (
    (re.compile(r"^([ \t]*|.*[:;][ \t]*)print[ \t]+(?![(=>])([^\n#]*[^\n#,\s])[ \t]*(,?)[ \t]*$", re.MULTILINE), r"\1print(\2\3)"),
    (re.compile(r"^([ \t]*except[ \t]+[\w.]+),[ \t]*(\w+)[ \t]*:", re.MULTILINE), r"\1 as \2:"),
    (re.compile(r"\bxrange\("), "range("),
    (re.compile(r"\.iter(items|keys|values)\("), r".\1("),
)
"""What Python 3 writes otherwise, by patterns of Python 2."""
TABLES = frozenset({"DataFrame", "Series"})
"""Calls that create a table."""


def tree_of(text: str) -> ast.Module | None:
    """The syntax tree, or None if the text is not Python 3."""
    try:
        return syntax.tree_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def modern(text: str) -> str:
    """A program of Python 2 in Python 3, if statements and methods with other names are all that differs; else empty."""
    if not any(pattern.search(text) for pattern, _ in PYTHON_2):
        return ""
    for pattern, now in PYTHON_2:
        text = pattern.sub(now, text)
    text = re.sub(r"^(.*\bprint\(.*),\)$", r"\1, end=' ')", text, flags=re.MULTILINE)
    return text if tree_of(text) else ""


def goes_on(piece: str, line: str) -> bool:
    """Whether a line without a prompt belongs to the piece before it: it is the indented body of its block, or the piece is not whole."""
    piece = modern(piece) or piece
    indented = line[:1].isspace()
    if tree_of(piece) is None:
        return indented or tree_of(f"{piece}\n{line}") is not None
    head = piece.partition("\n")[0].rstrip()
    return indented and head.endswith(":") and tree_of(f"{piece}\n{line}") is not None


def is_expression(text: str) -> bool:
    """Whether it is a Python expression that calls a method or makes a list of a list; data and other languages do not."""
    tree = tree_of(text)
    if tree is None or not all(isinstance(node, ast.Expr | ast.Assign | ast.AugAssign) for node in tree.body):
        return False
    nodes = list(ast.walk(tree))
    return any(isinstance(n, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) for n in nodes) or any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) for n in nodes
    )


def split(text: str) -> list[tuple[str, str]]:
    """The pieces that do something, each as long as possible, with the lines up to the next one (its output)."""
    lines = text.splitlines(keepends=True)[:MAX_LINES]
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(lines):
        end = next((end for end in range(len(lines), at, -1) if lines[at].strip() and _does("".join(lines[at:end]))), at)
        if end > at:
            found.append(("".join(lines[at:end]), ""))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + lines[at])
        at = max(end, at + 1)
    return found


def trees(text: str) -> list[ast.Module]:
    """The trees of the pieces in a text that may contain outputs between them."""
    tree = tree_of(text)
    found = [tree] if tree else [tree_of(code) for code, _ in split(text)]
    return [each for each in found if each is not None]


def shows(node: ast.stmt) -> bool:
    """Whether it is `print(df)`, or `df` alone."""
    value = node.value if isinstance(node, ast.Expr) else None
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print" and len(value.args) == 1:
        value = value.args[0]
    return isinstance(value, ast.Name)


def together(pieces: Sequence[str]) -> str:
    """The pieces as one program whose output is that of the last piece: the earlier ones do not print."""
    return "".join(f"{without_shows(each).rstrip()}\n" for each in pieces[:-1]) + pieces[-1]


def without_shows(text: str) -> str:
    """The program without the statements that only print."""
    tree = tree_of(text)
    gone = {n for node in (tree.body if tree else ()) if shows(node) for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return "".join(line for n, line in enumerate(text.splitlines(keepends=True), 1) if n not in gone)


def named(text: str) -> str:
    """The program without comments and tables: the names and values that it depends on remain."""
    tree = tree_of(text)
    return ast.unparse(_WithoutTables().visit(tree)) if tree else text


class _WithoutTables(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return ast.Constant(None) if called in TABLES else node


def _does(text: str) -> bool:
    """Whether it does something; words that happen to be names do nothing."""
    tree = tree_of(text)
    return tree is not None and any(
        not isinstance(node, ast.Expr | ast.AnnAssign) or isinstance(node.value, ast.Call) for node in tree.body
    )
