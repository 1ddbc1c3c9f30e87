"""Assertions of Python tests turned around, or said in another way. Pure; used to make canaries.

An inversion changes exactly one assertion so that a test which passes honestly fails honestly. Where an expected literal can be
changed, that is one way of doing it: it reads like any test, and it also finds code that compares equal to everything.
"""

import ast
import builtins
from collections.abc import Iterator, Sequence
from random import Random

from task_builders.languages.python.source_edits import Edit, Source

TestFunction = ast.FunctionDef | ast.AsyncFunctionDef
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
METHODS = {
    "assertEqual": "assertNotEqual",
    "assertEquals": "assertNotEqual",
    "assertTrue": "assertFalse",
    "assertIn": "assertNotIn",
    "assertIs": "assertIsNot",
    "assertIsNone": "assertIsNotNone",
    "assertIsInstance": "assertNotIsInstance",
    "assertGreater": "assertLessEqual",
    "assertLess": "assertGreaterEqual",
    "assertAlmostEqual": "assertNotAlmostEqual",
    "assertRegex": "assertNotRegex",
}
OPPOSITE_METHODS = METHODS | {v: k for k, v in METHODS.items() if k != "assertEquals"}
EQUALITY_METHODS = frozenset(
    {"assertEqual", "assertEquals", "assertListEqual", "assertDictEqual", "assertTupleEqual", "assertMultiLineEqual"}
)
OTHER_ERRORS = ("IndexError", "ZeroDivisionError", "OverflowError", "KeyError", "AttributeError", "TypeError", "ValueError")


def inversions(source: Source, function: TestFunction, chance: Random) -> list[Edit]:
    """Edits of which each alone turns one assertion of the function around, the surest and least conspicuous ones first."""
    literal: list[Edit] = []
    plain: list[Edit] = []
    for statement in _straight(function.body):
        for changed, edits in ((_other_literal, literal), (_opposite, plain)):
            edit = changed(source, statement, chance)
            if edit is not None:
                edits.append(edit)
    chance.shuffle(literal)
    chance.shuffle(plain)
    return [edit for pair in _alternate(literal, plain) for edit in pair]


def _alternate(a: Sequence[Edit], b: Sequence[Edit]) -> Iterator[list[Edit]]:
    for n in range(max(len(a), len(b))):
        yield [*a[n : n + 1], *b[n : n + 1]]


def restatements(source: Source, function: TestFunction) -> list[Edit]:
    """Edits that say an assertion with two negations, so that a negation is no sign of a canary that must fail."""
    edits = []
    for statement in _straight(function.body):
        test = statement.test if isinstance(statement, ast.Assert) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in SAME:
            said = f"{source.text(test.left)} {OPPOSITE[type(test.ops[0])]} {_operand(source, test.comparators[0])}"
            edits.append(source.replace(test, f"not {said}" if "\n" not in said else f"not ({said})"))
    return edits


def _straight(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that surely run when the test passes: not in branches or loops, and through `with` blocks."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.With | ast.AsyncWith) and _raises(statement) is None:
            yield from _straight(statement.body)


def _other_literal(source: Source, statement: ast.stmt, chance: Random) -> Edit | None:
    sides: Sequence[ast.expr] = ()
    if isinstance(statement, ast.Assert) and isinstance(statement.test, ast.Compare):
        test = statement.test
        if len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            sides = (test.left, test.comparators[0])
    elif (call := _method_call(statement)) is not None and call[0] in EQUALITY_METHODS and len(call[1].args) >= len(("first", "second")):
        sides = call[1].args[:2]
    literals = [side for side in sides if _is_literal(side)]
    if len(literals) != 1:
        return None
    constants = [n for n in ast.walk(literals[0]) if isinstance(n, ast.Constant)]
    chance.shuffle(constants)
    for constant in constants:
        text = _changed(source.text(constant), constant.value, chance)
        if text is not None:
            return source.replace(constant, text)
    return None


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _changed(text: str, value: object, chance: Random) -> str | None:
    """The constant's text with another value of the same look; None where there is none."""
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, int):
        return str(value + chance.choice((1, 2, 10)))
    if isinstance(value, float):
        return repr(value + chance.choice((1.0, 2.5, 10.0)))
    if isinstance(value, str) and "\n" not in text and text[:1] in "\"'" and text[:3] not in ('"""', "'''") and len(text) >= len("'x'"):
        letters = [n for n, c in enumerate(text[1:-1], 1) if c.isalpha() and c.isascii() and text[n - 1] != "\\"]
        if "\\" in text or not letters:
            return None
        n = chance.choice(letters)
        others = [c for c in ("aeinorst" if text[n].islower() else "AEINORST") if c != text[n]]
        return text[:n] + chance.choice(others) + text[n + 1 :]
    return None


def _opposite(source: Source, statement: ast.stmt, chance: Random) -> Edit | None:
    if isinstance(statement, ast.Assert):
        return _opposite_assert(source, statement.test, chance)
    if isinstance(statement, ast.With) and (expected := _raises(statement)) is not None:
        other = _other_error(source.text(expected), chance)
        return source.replace(expected, other) if other else None
    call = _method_call(statement)
    if call is not None and call[0] in OPPOSITE_METHODS:
        function = call[1].func
        if isinstance(function, ast.Attribute):
            return source.replace(function, f"{source.text(function.value)}.{OPPOSITE_METHODS[call[0]]}")
    return None


def _opposite_assert(source: Source, test: ast.expr, chance: Random) -> Edit | None:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return source.replace(test, f"({source.text(test.operand)})" if "\n" in source.text(test.operand) else source.text(test.operand))
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right, op = _operand(source, test.left), _operand(source, test.comparators[0]), type(test.ops[0])
        if op in SAME and chance.random() < 0.5:  # noqa: PLR2004 - one way or the other
            return source.replace(test, f"(not {left} {SAME[op]} {right})")
        return source.replace(test, f"({left} {OPPOSITE[op]} {right})" if "\n" in left + right else f"{left} {OPPOSITE[op]} {right}")
    return source.replace(test, f"not ({source.text(test)})")


def _operand(source: Source, node: ast.expr) -> str:
    text = source.text(node)
    negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    loose = negated or isinstance(node, ast.Compare | ast.BoolOp | ast.IfExp | ast.Lambda | ast.NamedExpr)
    return f"({text})" if loose or "\n" in text else text


def _raises(statement: ast.With | ast.AsyncWith) -> ast.expr | None:
    """The exception that a `with pytest.raises(E)` or `with self.assertRaises(E)` expects."""
    for item in statement.items:
        call = item.context_expr
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute | ast.Name) and call.args:
            name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id
            if name in ("raises", "assertRaises", "assertRaisesRegex"):
                return call.args[0]
    return None


def _other_error(expected: str, chance: Random) -> str | None:
    """An exception whose class does not hold the expected one."""
    known = getattr(builtins, expected, None)
    if expected in ("Exception", "BaseException"):
        known = None
    others = []
    for name in OTHER_ERRORS[:4] if known is None else OTHER_ERRORS:
        other = getattr(builtins, name)
        if not (isinstance(known, type) and (issubclass(known, other) or issubclass(other, known))):
            others.append(name)
    return chance.choice(others) if others else None


def _method_call(statement: ast.stmt) -> tuple[str, ast.Call] | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "self":
            return call.func.attr, call
    return None
