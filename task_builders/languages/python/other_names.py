"""Other names for the names in a test's expressions: functions that are called in the same way, and attributes of the same owner. Pure;
used to make canaries of tests whose assertions contain no plain value.

As with values, the other name is one that the module itself uses in such a place, so that it cannot be recognized.
"""

import ast
from collections.abc import Iterable
from functools import cached_property
from random import Random

from task_builders.languages.python.source_edits import Source

OTHERS_MAX = 3
SPECIAL = ("self", "cls")


class OtherNames:
    """The names of one module, by where they are used."""

    def __init__(self, source: Source) -> None:
        self._source = source

    @cached_property
    def _called(self) -> dict[str, list[str]]:
        """Functions by how they are called."""
        return self._by_place(n for n in ast.walk(self._source.tree) if isinstance(n, ast.Call))

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        """Attributes used as values, by their owner."""
        return self._by_place(values_in([self._source.tree]))

    def _by_place(self, nodes: Iterable[ast.Call | ast.Attribute]) -> dict[str, list[str]]:
        found: dict[str, dict[str, None]] = {}
        for node in nodes:
            if (place := _place(node)) is not None:
                found.setdefault(place, {})[self._source.text(_named(node))] = None
        return {place: list(names) for place, names in found.items()}

    def of(self, node: ast.Call | ast.Attribute, chance: Random) -> list[tuple[ast.expr, str]]:
        """The replaceable parts of a call or attribute, each with a text to replace it."""
        place, named = _place(node), _named(node)
        known = (self._called if isinstance(node, ast.Call) else self._values).get(place or "", [])
        others = [name for name in known if name != self._source.text(named)]
        return [(named, name) for name in chance.sample(others, min(len(others), OTHERS_MAX))]


def calls_and_values(node: ast.AST) -> list[ast.Call | ast.Attribute]:
    """The calls and attributes in an expression that may get another name."""
    return [*(n for n in ast.walk(node) if isinstance(n, ast.Call)), *values_in([node])]


def values_in(nodes: Iterable[ast.AST]) -> list[ast.Attribute]:
    """Attributes that are read as values: neither called nor owners of others."""
    found: list[ast.Attribute] = []
    inner: set[int] = set()
    for node in (n for top in nodes for n in ast.walk(top)):
        if isinstance(node, ast.Call):
            inner.add(id(node.func))
        elif isinstance(node, ast.Attribute):
            inner.add(id(node.value))
            if isinstance(node.ctx, ast.Load):
                found.append(node)
    return [node for node in found if id(node) not in inner]


def _named(node: ast.Call | ast.Attribute) -> ast.expr:
    return node.func if isinstance(node, ast.Call) else node


def _place(node: ast.Call | ast.Attribute) -> str | None:
    """What two names must share to be interchangeable; None if no other can replace it: each method of a test has its own meaning."""
    named = _named(node)
    owner = named.value if isinstance(named, ast.Attribute) else None
    if not isinstance(named, ast.Name | ast.Attribute) or (isinstance(owner, ast.Name) and owner.id in SPECIAL):
        return None
    place = ast.dump(owner) if owner is not None else ""
    if isinstance(node, ast.Call):
        place += f"({len(node.args)}, {sorted(k.arg or '**' for k in node.keywords)})"
    return place
