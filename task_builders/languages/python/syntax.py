"""Hostile Python text → its syntax tree, or nothing. Pure; used wherever files of a project are read without being run."""

import ast
import warnings

MAX_CHARACTERS = 1_000_000


def parse(text: str) -> ast.Module | None:
    """The module's tree; None for what is no Python of today, or is made to exhaust a parser."""
    if len(text) > MAX_CHARACTERS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a test file's odd escapes are not ours to report
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
