"""Finds values in a Python test's assertions that another value can replace. Pure; used to make canaries.

There are four versions of an assertion: as it is or negated (`==` to `!=`), with its own value or another one. Two of them hold and two
fail. Neither the form nor, if the code gives neither value, the outcome reveals which.
"""

import ast
import builtins
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from task_builders.languages.python.literals import Literals, constants_of
from task_builders.languages.python.named_tests import TestFunction, may_generate
from task_builders.languages.python.other_names import OtherNames, calls_and_values, values_in
from task_builders.languages.python.source_edits import Edit, Source

TURNED: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: (r"==", "!="),
    ast.NotEq: (r"!=", "=="),
    ast.In: (r"\bin\b", "not in"),
    ast.NotIn: (r"\bnot\s+in\b", "in"),
    ast.Is: (r"\bis\b", "is not"),
    ast.IsNot: (r"\bis\s+not\b", "is"),
}
POSITIVE = {
    "assertEqual": "assertNotEqual",
    "assertEquals": "assertNotEqual",
    "assertIn": "assertNotIn",
    "assertIs": "assertIsNot",
    "assertAlmostEqual": "assertNotAlmostEqual",
    "assertIsInstance": "assertNotIsInstance",
    "assertRegex": "assertNotRegex",
}
METHODS = POSITIVE | {turned: name for name, turned in POSITIVE.items() if name != "assertEquals"}
RAISING = ("raises", "assertRaises", "assertRaisesRegex", "warns", "assertWarns", "assertWarnsRegex")
OTHER_WARNINGS = ("BytesWarning", "ImportWarning", "UnicodeWarning", "ResourceWarning", "FutureWarning", "RuntimeWarning", "UserWarning")
OTHER_ERRORS = ("IndexError", "ZeroDivisionError", "OverflowError", "KeyError", "AttributeError", "TypeError", "ValueError")
ALL_HOLDING = ("Exception", "BaseException", "Warning")
SPOTS_MAX = 6
OTHERS_MAX = 7
FLOWS, NAMES = 5, 6
"""Ranks of values that reach a statement through a name, and of other names: after all values in the assertion itself."""


@dataclass(frozen=True)
class Alteration:
    """One value of a test replaced by another."""

    statement: int
    """Index (in `statements`) of the function's statement that tests the value."""
    other: Edit
    """Inserts the other value: an assertion that held now fails."""
    turn: Edit | None
    """Negates the assertion; together with `other` it holds again."""
    rank: int
    """0 if the value is what the assertion expects; the larger, the further from that."""
    in_parameters: bool = False
    """Whether the value stands in the test's parameters: not all cases have it, and it may occur in their ids."""
    secret: bool = True
    """Whether nothing that the agent sees reveals the original value."""


@dataclass(frozen=True)
class _Spot:
    node: ast.expr
    told_in: ast.AST
    """The node that must be secret for the value to be secret."""
    turn: Edit | None
    rank: int
    in_parameters: bool = False


def alterations(
    source: Source, function: TestFunction, literals: Literals, chance: Random, known: Collection[str] = ()
) -> list[Alteration]:
    """Ways to alter a test, the most reliable first. Those whose `ast.dump` is among `known` come last: they are not secret."""
    found: list[Alteration] = []
    names = OtherNames(source)
    written = Counter(source.text(constant) for constant in constants_of([function], source))
    for n, statement in enumerate(statements(function)):
        for spot in _spots(source, function, statement):
            secret = ast.dump(spot.told_in) not in known
            constants = constants_of([spot.node], source)
            for constant in chance.sample(constants, min(len(constants), SPOTS_MAX)):
                edits = [source.replace(constant, text) for text in _as_often(written, source, constant, literals, chance)]
                found += [Alteration(n, edit, spot.turn, spot.rank, spot.in_parameters, secret) for edit in edits]
            # Parameters are evaluated when the module is loaded: a call that fails there fails every test of the module.
            named = values_in([spot.node]) if spot.in_parameters else calls_and_values(spot.node)
            for node in chance.sample(named, min(len(named), SPOTS_MAX)):
                edits = [source.replace(*other) for other in names.of(node, chance)]
                found += [Alteration(n, edit, spot.turn, spot.rank + NAMES, spot.in_parameters, secret) for edit in edits]
        expected = raised(statement) if isinstance(statement, ast.With | ast.AsyncWith) else None
        if expected is not None:
            secret = ast.dump(statement) not in known
            found += [
                Alteration(n, source.replace(expected, name), None, 0, secret=secret and asked_elsewhere)
                for name, asked_elsewhere in _other_errors(source, expected, chance)
            ]
    chance.shuffle(found)
    surest: dict[tuple[Edit, Edit | None], Alteration] = {}
    for one in sorted(_spread(found), key=lambda a: (not a.secret, a.rank)):
        surest.setdefault((one.other, one.turn), one)
    return list(surest.values())


def _as_often(written: Counter[str], source: Source, constant: ast.Constant, literals: Literals, chance: Random) -> list[str]:
    """Other values: ones that the test uses elsewhere if it uses this one elsewhere, otherwise ones that it does not."""
    others = literals.others(constant, chance)
    fitting = [text for text in others if (written[text] > 0) == (written[source.text(constant)] > 1)]
    return (fitting or others)[:OTHERS_MAX]


def _spread(found: Sequence[Alteration]) -> list[Alteration]:
    """Round-robin over the places: the first of each, then the second of each, and so on."""
    seen: dict[tuple[int, int], int] = {}
    turns: list[tuple[int, int, Alteration]] = []
    for n, one in enumerate(found):
        place = (one.other.start, one.other.end)
        seen[place] = seen.get(place, 0) + 1
        turns.append((seen[place], n, one))
    return [one for _, _, one in sorted(turns, key=lambda t: t[:2])]


def statements(function: TestFunction) -> list[ast.stmt]:
    """The statements of a test in order; those of loops, branches and blocks come after the statement that contains them."""
    return list(_within(function.body))


def _within(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        for inner in inner_bodies(statement):
            yield from _within(inner)


def inner_bodies(statement: ast.stmt) -> list[list[ast.stmt]]:
    """The bodies of a compound statement; none for nested functions and classes, and for blocks that expect an error."""
    if isinstance(statement, ast.With | ast.AsyncWith):
        return [] if raised(statement) is not None else [statement.body]
    if isinstance(statement, ast.For | ast.AsyncFor | ast.While | ast.If):
        return [statement.body, statement.orelse]
    if isinstance(statement, ast.Try):
        return [statement.body, *(handler.body for handler in statement.handlers), statement.orelse, statement.finalbody]
    return []


def raised(statement: ast.With | ast.AsyncWith) -> ast.expr | None:
    """The exception or warning that `with pytest.raises(E)` or `with self.assertWarns(E)` expects."""
    for item in statement.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute | ast.Name) and call.args:
            name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
            if name in RAISING:
                return call.args[0]
    return None


def _spots(source: Source, function: TestFunction, statement: ast.stmt) -> Iterator[_Spot]:
    if isinstance(statement, ast.Assert):
        yield from _asserted(source, function, statement, statement.test)
    elif isinstance(statement, ast.With | ast.AsyncWith) and raised(statement) is not None:
        yield from (_Spot(k.value, statement, None, 1) for item in statement.items for k in _keywords(item.context_expr))
        yield from (_Spot(s.value, statement, None, 3) for s in statement.body if isinstance(s, ast.Expr | ast.Assign))
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        yield from _called(source, function, statement, statement.value)
    if not inner_bodies(statement):
        for name in dict.fromkeys(n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)):
            yield from (replace(spot, turn=None, rank=spot.rank + FLOWS) for spot in _bound(function, name, None))


def _asserted(source: Source, function: TestFunction, statement: ast.stmt, test: ast.expr) -> Iterator[_Spot]:
    inner = test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else test
    if not (isinstance(inner, ast.Compare) and len(inner.ops) == 1 and type(inner.ops[0]) in TURNED):
        yield _Spot(test, statement, None, 2)
        return
    turn = _turn(source, inner)
    left, right = inner.left, inner.comparators[0]
    yield from _sides(function, statement, (left, right), turn, first=isinstance(inner.ops[0], ast.In | ast.NotIn))


def _turn(source: Source, test: ast.Compare) -> Edit | None:
    """The edit that negates the comparison's operator."""
    pattern, text = TURNED[type(test.ops[0])]
    start, end = source.span(test.left)[1], source.span(test.comparators[0])[0]
    gap = source.data[start:end].decode()
    match = re.search(pattern, gap)
    return Edit(start + match.start(), start + match.end(), text) if match and "#" not in gap else None


def _called(source: Source, function: TestFunction, statement: ast.stmt, call: ast.Call) -> Iterator[_Spot]:
    own = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id in ("self", "cls")
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if own and name in METHODS and len(call.args) > 1:
        end = source.span(call.func)[1]
        turn = Edit(end - len(name), end, METHODS[name])
        yield from _sides(function, statement, (call.args[0], call.args[1]), turn, first=name.endswith("In"))
    elif own and name in ("assertTrue", "assertFalse") and call.args:
        yield from _asserted(source, function, statement, call.args[0])
    elif own and name.startswith("assert"):
        yield from (_Spot(argument, statement, None, 1) for argument in call.args)
    else:  # a function that asserts by itself, or one that prepares a value that is tested later
        yield from (_Spot(argument, statement, None, 4) for argument in (*call.args, *(k.value for k in call.keywords)))


def _sides(
    function: TestFunction, statement: ast.stmt, sides: tuple[ast.expr, ast.expr], turn: Edit | None, *, first: bool
) -> Iterator[_Spot]:
    """The expected side of a comparison, and the other side."""
    literal = [side for side in sides if is_literal(side)]
    expected = literal[0] if len(literal) == 1 else sides[0 if first else 1]
    other = sides[1] if expected is sides[0] else sides[0]
    for name in (expected, other):
        if isinstance(name, ast.Name):
            yield from _bound(function, name.id, turn)
    yield _Spot(expected, statement, turn, 0)
    yield _Spot(other, statement, turn, 2)


def _bound(function: TestFunction, name: str, turn: Edit | None) -> Iterator[_Spot]:
    """The literals that a name stands for: assigned, looped over or taken as parameters by the test."""
    for statement in statements(function):
        if isinstance(statement, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in statement.targets):
            yield _Spot(statement.value, statement, turn, 0 if is_literal(statement.value) else 3)
        elif isinstance(statement, ast.For) and isinstance(statement.iter, ast.List | ast.Tuple):
            column = _column(statement.target, name)
            yield from (_Spot(cell, row, turn, 1) for row, cell in _cells(statement.iter.elts, column))
    for decorator in function.decorator_list:
        names, rows = _parameters(function, decorator)
        if name in names:
            column = names.index(name) if len(names) > 1 else None
            yield from (_Spot(cell, row, None, 1, in_parameters=True) for row, cell in _cells(rows, column))


def _column(target: ast.expr, name: str) -> int | None:
    """The index of the part of each element that a loop's name is bound to; None for the whole element."""
    parts = target.elts if isinstance(target, ast.Tuple | ast.List) else []
    return next((n for n, part in enumerate(parts) if isinstance(part, ast.Name) and part.id == name), None)


def _cells(rows: Sequence[ast.expr], column: int | None) -> Iterator[tuple[ast.expr, ast.expr]]:
    for row in rows:
        cells = row.args if isinstance(row, ast.Call) else row.elts if isinstance(row, ast.Tuple | ast.List) else None
        if column is None:
            yield row, row
        elif cells is not None and column < len(cells):
            yield row, cells[column]


def syntax_shown(tree: ast.Module) -> set[str]:
    """The syntax of everything that a module reveals: its statements, and the rows of loops and parameters."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            rows = [row for decorator in node.decorator_list for row in _parameters(node, decorator)[1]]
            loops = [s.iter for s in statements(node) if isinstance(s, ast.For)]
            rows += [row for loop in loops if isinstance(loop, ast.List | ast.Tuple) for row in loop.elts]
            found |= {ast.dump(part) for part in (*statements(node), *rows)}
    return found


def _parameters(function: TestFunction, decorator: ast.expr) -> tuple[list[str], Sequence[ast.expr]]:
    """The names and the rows of a `parametrize`, or of a decorator that may generate tests by rows."""
    two = 2
    if not isinstance(decorator, ast.Call):
        return [], ()
    if may_generate(decorator):
        listed = (
            decorator.args[0].elts if len(decorator.args) == 1 and isinstance(decorator.args[0], ast.List | ast.Tuple) else decorator.args
        )
        return [a.arg for a in (*function.args.posonlyargs, *function.args.args) if a.arg not in ("self", "cls")], listed
    if not (isinstance(decorator.func, ast.Attribute) and decorator.func.attr == "parametrize"):
        return [], ()
    if len(decorator.args) < two or not isinstance(decorator.args[1], ast.List | ast.Tuple):
        return [], ()
    try:
        names = ast.literal_eval(decorator.args[0])
    except ValueError:
        return [], ()
    split = [part.strip() for part in names.split(",")] if isinstance(names, str) else [str(part) for part in names]
    return split, decorator.args[1].elts


def _keywords(call: ast.expr) -> list[ast.keyword]:
    return [k for k in call.keywords if k.arg == "match"] if isinstance(call, ast.Call) else []


def is_literal(node: ast.expr) -> bool:
    """Whether a node is a literal value."""
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _other_errors(source: Source, expected: ast.expr, chance: Random) -> list[tuple[str, bool]]:
    """Exceptions or warnings unrelated to the expected one, and whether other tests of the module expect them too.

    Built-in ones that no test expects can be recognized: they are never right.
    """
    text = source.text(expected)
    if text in ALL_HOLDING:
        return []
    known = getattr(builtins, text, None) if isinstance(expected, ast.Name) else None
    blocks = (n for n in ast.walk(source.tree) if isinstance(n, ast.With | ast.AsyncWith))
    named = sorted({source.text(e) for e in map(raised, blocks) if isinstance(e, ast.Name | ast.Attribute)} - {text})
    builtin = OTHER_WARNINGS if text.endswith("Warning") else OTHER_ERRORS
    others = []
    for name in dict.fromkeys([*chance.sample(named, len(named)), *chance.sample(builtin, len(builtin))]):
        other = getattr(builtins, name, None)
        related = isinstance(known, type) and isinstance(other, type) and (issubclass(known, other) or issubclass(other, known))
        if not related and name not in ALL_HOLDING and name.endswith("Warning") == text.endswith("Warning"):
            others.append((name, name in named))
    return others[:3]
