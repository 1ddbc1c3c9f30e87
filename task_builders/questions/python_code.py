"""Python 3 in posts: told from outputs and from other languages, taken apart where outputs stand between. Pure; called by whatever
understands programs. Must not run anything.
"""

import ast
from collections.abc import Sequence

MAX_LINES = 200
"""Of a text that is taken apart line by line."""
TABLES = frozenset({"DataFrame", "Series"})
"""Calls that set a table."""


def tree_of(text: str) -> ast.Module | None:
    """The syntax tree of Python 3; None where it is none."""
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_expression(text: str) -> bool:
    """Whether it is Python that calls a method, or makes a list of a list, and nothing that data or another language would be."""
    tree = tree_of(text)
    if tree is None or not all(isinstance(node, ast.Expr | ast.Assign | ast.AugAssign) for node in tree.body):
        return False
    nodes = list(ast.walk(tree))
    return any(isinstance(n, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) for n in nodes) or any(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) for n in nodes
    )


def split(text: str) -> list[tuple[str, str]]:
    """Each piece that does something, as long as it can be, with the lines up to the next one: what it printed."""
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
    """The trees of the pieces in a text that may hold outputs between them."""
    tree = tree_of(text)
    found = [tree] if tree else [tree_of(code) for code, _ in split(text)]
    return [each for each in found if each is not None]


def shows(node: ast.stmt) -> bool:
    """`print(df)`, or `df` alone."""
    value = node.value if isinstance(node, ast.Expr) else None
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print" and len(value.args) == 1:
        value = value.args[0]
    return isinstance(value, ast.Name)


def together(pieces: Sequence[str]) -> str:
    """Pieces as one program, that prints what the last one does: those before it show nothing."""
    return "".join(f"{without_shows(each).rstrip()}\n" for each in pieces[:-1]) + pieces[-1]


def without_shows(text: str) -> str:
    """A program that only computes what it showed."""
    tree = tree_of(text)
    gone = {n for node in (tree.body if tree else ()) if shows(node) for n in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return "".join(line for n, line in enumerate(text.splitlines(keepends=True), 1) if n not in gone)


def named(text: str) -> str:
    """A program without remarks, and without the tables that it sets: what is left are the names and values that it works by."""
    tree = tree_of(text)
    return ast.unparse(_WithoutTables().visit(tree)) if tree else text


class _WithoutTables(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return ast.Constant(None) if called in TABLES else node


def _does(text: str) -> bool:
    """Whether it does something: words that happen to be names do nothing."""
    tree = tree_of(text)
    return tree is not None and any(
        not isinstance(node, ast.Expr | ast.AnnAssign) or isinstance(node.value, ast.Call) for node in tree.body
    )
