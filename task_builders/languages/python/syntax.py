"""Parses hostile Python text. Pure; for all project files that are read without being run."""

import ast
import warnings

MAX_CHARACTERS = 1_000_000


def parse(text: str) -> ast.Module | None:
    """The module's tree; None if it is not valid Python or is made to exhaust the parser."""
    if len(text) > MAX_CHARACTERS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # do not report a test file's invalid escapes
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
