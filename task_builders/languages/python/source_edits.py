"""Edits Python source by position, so that comments and layout stay. Pure."""

import ast
from collections.abc import Iterable
from typing import NamedTuple

from task_builders.languages.python.syntax import tree_of


class Edit(NamedTuple):
    """Replaces the bytes from `start` to `end` by `text`."""

    start: int
    end: int
    text: str


class Source:
    """A module's text with its syntax tree. Raises `SyntaxError` or `ValueError` (null byte, not UTF-8) if it cannot be parsed."""

    def __init__(self, data: bytes) -> None:
        self.data = data.replace(b"\r\n", b"\n")
        self.data.decode()  # positions in the tree are those of UTF-8
        self.tree = tree_of(self.data)
        self._starts = [0]
        for line in self.data.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """The byte offsets of a node, without decorators."""
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError("the syntax tree has no positions")
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt) -> str:
        """A node's own text."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def replace(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        """An edit that replaces a node's text."""
        return Edit(*self.span(node), text)

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """The text after non-overlapping edits; an edit inside an earlier, larger one is lost."""
        out, position = [], 0
        for edit in sorted(set(edits), key=lambda e: (e.start, -e.end)):
            if edit.start >= position:
                out += [self.data[position : edit.start], edit.text.encode()]
                position = edit.end
        return b"".join([*out, self.data[position:]])
