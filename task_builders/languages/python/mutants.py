"""Variants of a fix: wrong ones (mutants) that its tests should fail, and equivalent ones that they must pass. Pure.

For the gates "mutation score" and "equivalents". Every variant is Python that compiles and differs from the fix by more than a docstring or
an annotation.
"""

import ast
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from random import Random
from symtable import SymbolTable
from typing import TypeGuard

from task_builders.languages.python.changed_functions import Hunk, functions, hunks, touches, without_hunk
from task_builders.languages.python.meaning import meaning
from task_builders.languages.python.named_tests import TestFunction as Function
from task_builders.languages.python.source_edits import Edit, Source
from task_builders.languages.python.syntax import scope_of, tree_of
from task_builders.languages.variant import Variant

OPPOSITE: dict[type[ast.cmpop], str] = {
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.Lt: ">=",
    ast.GtE: "<",
    ast.Gt: "<=",
    ast.LtE: ">",
}
NEIGHBOURS: dict[type[ast.cmpop], str] = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}


RESULT = "outcome_of_it"
READING_NAMES = frozenset({"locals", "vars", "eval", "exec", "dir", "f_locals", "currentframe", "_getframe", "stack"})
"""What reads a function's variables by their names."""


def mutants(before: Mapping[str, bytes], after: Mapping[str, bytes], seed: str, limit: int = 12) -> tuple[Variant, ...]:
    """At most `limit` wrong variants of the fix, of mixed kinds. Takes path → text before and after; a new file is only in `after`."""
    return _collect(before, after, seed, limit, _wrong)


def equivalents(before: Mapping[str, bytes], after: Mapping[str, bytes], seed: str, limit: int = 4) -> tuple[Variant, ...]:
    """Variants that are equivalent to the fix but written differently. None if it touches no function."""
    return _collect(before, after, seed, limit, _equal)


Found = tuple[str, int, Callable[[], bytes | None]]
"""Kind, line, and a function that makes the text, called only if the variant is chosen."""
Finder = Callable[[Source, bytes, list[Hunk]], Iterator[Found]]


def _collect(before: Mapping[str, bytes], after: Mapping[str, bytes], seed: str, limit: int, find: Finder) -> tuple[Variant, ...]:
    chance = Random(seed)  # noqa: S311 - reproducible
    places: dict[str, list[tuple[str, int, Source, Callable[[], bytes | None]]]] = {}
    for path in sorted(after):
        if not path.endswith(".py"):
            continue
        try:
            source = Source(after[path])
        except (SyntaxError, ValueError):
            continue
        old = before.get(path, b"").replace(b"\r\n", b"\n")
        for kind, line, write in find(source, old, hunks(old, source.data)):
            places.setdefault(kind, []).append((path, line, source, write))
    for of_kind in places.values():
        chance.shuffle(of_kind)
    chosen: list[Variant] = []
    while len(chosen) < limit and any(places.values()):
        for kind in sorted(k for k, left in places.items() if left):
            path, line, source, write = places[kind].pop()
            data = write()
            if data is not None and len(chosen) < limit and _differs(data, source):
                chosen.append(Variant(kind, path, line, {**after, path: data}))
    return tuple(chosen)


def _differs(data: bytes, source: Source) -> bool:
    """Whether a text is Python that compiles and behaves differently."""
    tree = _parsed(data)
    return tree is not None and meaning(tree) != meaning(copy.deepcopy(source.tree))


def _parsed(data: bytes) -> ast.Module | None:
    try:
        tree = tree_of(data)
        compile(tree, "<variant>", "exec")
    except (SyntaxError, ValueError):
        return None
    return tree


def _wrong(source: Source, before: bytes, changed: list[Hunk]) -> Iterator[Found]:
    for hunk in changed:
        yield "hunk dropped", hunk.after[0] + 1, partial(without_hunk, before, source.data, hunk)
    for function in functions(source, changed):
        for node in ast.walk(function):
            if isinstance(node, ast.stmt | ast.expr) and touches(node, changed):
                for kind, edit in _mutations(source, node):
                    yield kind, node.lineno, partial(source.edited, [edit])


def _mutations(source: Source, node: ast.stmt | ast.expr) -> Iterator[tuple[str, Edit]]:
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition inverted", source.replace(node.test, f"not ({source.text(node.test)})")
    if isinstance(node, ast.Return) and node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield "return changed", source.replace(node.value, "None")
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        left, right, op = source.text(node.left), source.text(node.comparators[0]), type(node.ops[0])
        yield "comparison swapped", source.replace(node, f"{left} {NEIGHBOURS.get(op) or OPPOSITE[op]} {right}")
    if isinstance(node, ast.BoolOp):
        word = " or " if isinstance(node.op, ast.And) else " and "
        yield "condition joined otherwise", source.replace(node, word.join(f"({source.text(v)})" for v in node.values))
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
        yield "number changed", source.replace(node, str(node.value + 1))
    if isinstance(node, ast.Raise):
        yield "error not raised", source.replace(node, "pass")


def _equal(source: Source, _before: bytes, changed: list[Hunk]) -> Iterator[Found]:
    for function in functions(source, changed):
        for kind, find in (("branches swapped", _swapped_branches), ("local renamed", _renamed_local), ("result named", _named_result)):
            yield kind, function.lineno, partial(_edited, source, find, function)
    yield from _swapped_definitions(source, changed)


def _edited(source: Source, find: Callable[[Source, Function], list[Edit]], function: Function) -> bytes | None:
    edits = find(source, function)
    return source.edited(edits) if edits else None


def _placed(function: Function) -> list[ast.AST]:
    """The nodes of a function whose positions can be relied on: before Python 3.12 those in f-strings cannot."""
    unsure = {id(n) for outer in ast.walk(function) if isinstance(outer, ast.JoinedStr) for n in ast.walk(outer)}
    return [n for n in ast.walk(function) if id(n) not in unsure]


def _swapped_branches(source: Source, function: Function) -> list[Edit]:
    for node in _placed(function):
        if isinstance(node, ast.IfExp):
            texts = [f"({source.text(part)})" for part in (node.orelse, node.body)]
            return [source.replace(node.body, texts[0]), _negated(source, node.test), source.replace(node.orelse, texts[1])]
        if isinstance(node, ast.If) and node.orelse and not (len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)):
            blocks = [(node.body[0], node.body[-1]), (node.orelse[0], node.orelse[-1])]
            if not any(getattr(first, "decorator_list", ()) for first, _ in blocks):
                one, other = [(source.span(first)[0], source.span(last)[1]) for first, last in blocks]
                return [
                    _negated(source, node.test),
                    Edit(*one, source.data[slice(*other)].decode()),
                    Edit(*other, source.data[slice(*one)].decode()),
                ]
    return []


def _negated(source: Source, test: ast.expr) -> Edit:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return source.replace(test, f"({source.text(test.operand)})")
    return source.replace(test, f"(not ({source.text(test)}))")


def _renamed_local(source: Source, function: Function) -> list[Edit]:
    """Another name for a local variable that no inner scope has, and that nothing reads by its name."""
    placed = _placed(function)
    names = [n for n in placed if isinstance(n, ast.Name)]
    mentioned = {getattr(n, "id", "") or getattr(n, "attr", "") for n in ast.walk(function)}
    table = scope_of(source.data, function.name, function.lineno)
    if table is None or mentioned & READING_NAMES:
        return []
    elsewhere = set(_names_within(table.get_children()))
    sure = {id(n) for n in names}
    elsewhere |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and id(n) not in sure}
    by_text = {n.name for n in ast.walk(function) if isinstance(n, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and n.name}
    by_text |= {n.rest for n in ast.walk(function) if isinstance(n, ast.MatchMapping) and n.rest}
    # In what a definition evaluates (annotations, defaults, decorators) names are those of the scope around it.
    outside = {id(n) for part in _evaluated_outside(function) for n in ast.walk(part)}
    for stored in names:
        name, new = stored.id, f"{stored.id}_of_it"
        if not isinstance(stored.ctx, ast.Store) or name in elsewhere | by_text or new in mentioned or name not in table.get_identifiers():
            continue
        symbol = table.lookup(name)
        if symbol.is_local() and not symbol.is_parameter() and not symbol.is_imported():
            return [source.replace(n, new) for n in names if n.id == name and id(n) not in outside]
    return []


def _names_within(tables: Sequence[SymbolTable]) -> Iterator[str]:
    for table in tables:
        yield from table.get_identifiers()
        yield from _names_within(table.get_children())


def _evaluated_outside(function: Function) -> list[ast.AST]:
    return [function.args, *function.decorator_list, *([function.returns] if function.returns is not None else [])]


def _named_result(source: Source, function: Function) -> list[Edit]:
    """Assign a returned expression to a name before it is returned."""
    if any(getattr(n, "id", "") == RESULT for n in ast.walk(function)):
        return []
    for node in _placed(function):
        if isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Name | ast.Constant):
            start, end = source.span(node)
            return [Edit(start, start + len("return"), f"{RESULT} ="), Edit(end, end, f"; return {RESULT}")]
    return []


def _swapped_definitions(source: Source, changed: list[Hunk]) -> Iterator[Found]:
    """Adjacent plain functions, one of them touched, in the other order."""
    for block in [source.tree.body, *(n.body for n in ast.walk(source.tree) if isinstance(n, ast.ClassDef))]:
        for first, second in pairwise(block):
            if _is_plain(first) and _is_plain(second) and (touches(first, changed) or touches(second, changed)):
                names = {first.name, second.name}
                outside = [*_evaluated_outside(first), *_evaluated_outside(second)]
                used = {n.id for part in outside for n in ast.walk(part) if isinstance(n, ast.Name)}
                if len(names) > 1 and not names & used:
                    edits = [source.replace(first, source.text(second)), source.replace(second, source.text(first))]
                    yield "definitions reordered", first.lineno, partial(source.edited, edits)


def _is_plain(node: ast.stmt) -> TypeGuard[ast.FunctionDef]:
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return False
    made_at_definition = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
    return all(isinstance(value, ast.Constant) for value in made_at_definition)
