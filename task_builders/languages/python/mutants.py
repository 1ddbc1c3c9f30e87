"""Variants of a fix: wrong ones (mutants) that its tests should fail, and equivalent ones that they must pass. Pure.

For the gates "mutation score" and "equivalents". Every variant is Python that compiles and differs from the fix by more than a docstring or
an annotation.
"""

import ast
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from random import Random

from task_builders.languages.python.changed_functions import Hunk, functions, hunks, replaced, touches, without_hunk
from task_builders.languages.python.meaning import meaning
from task_builders.languages.python.named_tests import TestFunction as Function
from task_builders.languages.python.source_edits import Edit, Source
from task_builders.languages.python.syntax import tree_of

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
SAME: dict[type[ast.cmpop], str] = {ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not"}
NEIGHBOURS: dict[type[ast.cmpop], str] = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}


@dataclass(frozen=True)
class Variant:
    """The fix, changed in one place."""

    kind: str
    """What was done, in terms that are the same for every task: `hunk dropped`, `condition inverted`, …"""
    path: str
    line: int
    """From 1, in the file after the fix."""
    files: dict[str, bytes]
    """The whole fix: every touched file with its new content."""


def mutants(before: Mapping[str, bytes], after: Mapping[str, bytes], *, seed: str, limit: int = 12) -> tuple[Variant, ...]:
    """At most `limit` wrong variants of the fix, of mixed kinds. Takes path → text before and after; a new file is only in `after`."""
    return _collect(before, after, seed, limit, _wrong)


def equivalents(before: Mapping[str, bytes], after: Mapping[str, bytes], *, seed: str, limit: int = 4) -> tuple[Variant, ...]:
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
        for kind, change in (("branches swapped", _swap_branches), ("local renamed", _rename_local), ("result named", _name_result)):
            yield kind, function.lineno, partial(_rewritten, source, function, change)
    yield from _swapped_definitions(source, changed)


def _rewritten(source: Source, function: Function, change: Callable[[Function], bool]) -> bytes | None:
    new = copy.deepcopy(function)
    return replaced(source, function, new) if change(new) else None


def _swap_branches(function: Function) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.If) and node.orelse and not (len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)):
            node.test, node.body, node.orelse = _negated(node.test), node.orelse, node.body
            return True
        if isinstance(node, ast.IfExp):
            node.test, node.body, node.orelse = _negated(node.test), node.orelse, node.body
            return True
    return False


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in {ast.Is, ast.IsNot, ast.In, ast.NotIn} & SAME.keys():
        opposite: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}
        return ast.Compare(test.left, [opposite[type(test.ops[0])]()], test.comparators)
    return test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else ast.UnaryOp(ast.Not(), test)


def _rename_local(function: Function) -> bool:
    """Rename a local variable that no inner scope, declaration or call to `locals` could see."""
    names = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Global, ast.Nonlocal)
    if names & {"locals", "vars", "eval", "exec", "dir"} or any(isinstance(n, inner) for n in ast.walk(function) if n is not function):
        return False
    bound_otherwise = {n.name for n in ast.walk(function) if isinstance(n, ast.ExceptHandler) and n.name}
    bound_otherwise |= {
        (a.asname or a.name).partition(".")[0] for n in ast.walk(function) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names
    }
    bound_otherwise |= {n.name for n in ast.walk(function) if isinstance(n, ast.MatchAs | ast.MatchStar) and n.name}
    parameters = {a.arg for a in ast.walk(function.args) if isinstance(a, ast.arg)}
    stored = [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    for name in stored:
        new = f"{name}_of_it"
        if name not in parameters | bound_otherwise and new not in names:
            for node in ast.walk(function):
                if isinstance(node, ast.Name) and node.id == name:
                    node.id = new
            return True
    return False


def _name_result(function: Function) -> bool:
    """Assign a returned expression to a name before it is returned."""
    names = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
    for node in ast.walk(function):
        body = getattr(node, "body", None)
        last = body[-1] if isinstance(body, list) and body else None
        if (
            isinstance(body, list)
            and isinstance(last, ast.Return)
            and last.value is not None
            and not isinstance(last.value, ast.Name | ast.Constant)
        ):
            if "outcome_of_it" in names:
                return False
            body[-1:] = [
                ast.Assign([ast.Name("outcome_of_it", ast.Store())], last.value, lineno=last.lineno),
                ast.Return(ast.Name("outcome_of_it", ast.Load())),
            ]
            return True
    return False


def _swapped_definitions(source: Source, changed: list[Hunk]) -> Iterator[Found]:
    """Adjacent plain functions, one of them touched, in the other order."""
    for block in [source.tree.body, *(n.body for n in ast.walk(source.tree) if isinstance(n, ast.ClassDef))]:
        for first, second in pairwise(block):
            if _is_plain(first) and _is_plain(second) and (touches(first, changed) or touches(second, changed)):
                edits = [source.replace(first, source.text(second)), source.replace(second, source.text(first))]
                yield "definitions reordered", first.lineno, partial(source.edited, edits)


def _is_plain(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef) or node.decorator_list:
        return False
    made_at_definition = [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
    return all(isinstance(value, ast.Constant) for value in made_at_definition)
