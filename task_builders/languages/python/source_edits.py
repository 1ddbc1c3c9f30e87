"""Edits of Python source by position, so that comments and layout stay. Used where canaries and mutants are made. Pure."""

import ast
from collections.abc import Iterable
from typing import NamedTuple


class Edit(NamedTuple):
    """Bytes from `start` up to `end` become `text`."""

    start: int
    end: int
    text: str


class Source:
    """A module's text with its syntax tree. Raises `SyntaxError` or `ValueError` (a null byte, a wrong encoding) when it has none."""

    def __init__(self, data: bytes) -> None:
        self.data = data.replace(b"\r\n", b"\n")
        self.tree = ast.parse(self.data)
        self._starts = [0]
        for line in self.data.split(b"\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Where a node stands, decorators not counted, as byte offsets."""
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError("the syntax tree has no positions")
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr | ast.stmt) -> str:
        """A node's own text."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def replace(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        """An edit that puts other text in a node's place."""
        return Edit(*self.span(node), text)

    def edited(self, edits: Iterable[Edit]) -> bytes:
        """The text after edits that do not overlap; one that lies within an earlier, larger one is lost with it."""
        out, position = [], 0
        for edit in sorted(set(edits), key=lambda e: (e.start, -e.end)):
            if edit.start >= position:
                out += [self.data[position : edit.start], edit.text.encode()]
                position = edit.end
        return b"".join([*out, self.data[position:]])
