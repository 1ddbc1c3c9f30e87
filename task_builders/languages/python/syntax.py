"""Parses hostile Python text. Pure; for all project files that are read without being run."""

import ast
import warnings
from symtable import SymbolTable, symtable
from threading import Lock
from typing import Any

MAX_CHARACTERS = 1_000_000
_ONE_AT_A_TIME = Lock()


def tree_of(text: str | bytes) -> ast.Module:
    """The module's tree. Raises as `ast.parse` does, which two threads must not call at once.

    Before Python 3.11.8 it counts its depth in one place for all: a thread that a garbage collection lets in between spoils the other's
    count, and `SystemError` is raised (https://github.com/python/cpython/issues/106905).
    """
    with _ONE_AT_A_TIME:
        return ast.parse(text)  # noqa: TID251 - the one place


def value_of(text: str) -> Any:
    """The value of a literal's text. Raises as `ast.literal_eval` does, which parses as well."""
    with _ONE_AT_A_TIME:
        return ast.literal_eval(text)


def scope_of(text: bytes, name: str, line: int) -> SymbolTable | None:
    """The scope of the function of this name that is defined in this line (from 1); None if there is none, or the text does not compile."""
    try:
        with _ONE_AT_A_TIME:
            tables = [symtable(text.decode(), "<text>", "exec")]
    except (SyntaxError, ValueError):
        return None
    while tables:
        table = tables.pop()
        if (table.get_type(), table.get_name(), table.get_lineno()) == ("function", name, line):
            return table
        tables += table.get_children()
    return None


def parse(text: str) -> ast.Module | None:
    """The module's tree; None if it is not valid Python or is made to exhaust the parser."""
    if len(text) > MAX_CHARACTERS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # do not report a test file's invalid escapes
        try:
            return tree_of(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
