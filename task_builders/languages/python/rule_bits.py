"""How much a forger's rule that is fixed beforehand would have to know of a task's canaries. Pure."""

import ast
from collections.abc import Collection, Mapping, Sequence
from math import log2

from envfarm.core.plan import Canary
from envfarm.grading import guesses
from task_builders.languages.python.assertions import POSITIVE
from task_builders.languages.python.syntax import tree_of


def rule_bits(canaries: Sequence[Canary], templates: Mapping[str, bytes], fail_to_pass: Collection[str]) -> float:
    """How many bits a forger's rule has to get right if it is fixed beforehand, whichever templates are drawn and however often.

    A rule that ranks the values of a test is right for the task if it puts the test's own value above all others that its copies show: of n
    values it does so with a chance of 1 in n. So this is the sum of log2 n over the secret FAIL_TO_PASS tests that are shown both ways.
    Copies that differ in a negation alone show the same value.
    """
    shown: dict[str, set[str]] = {}
    kinds: dict[str, set[str]] = {}
    texts = {name: _values_by_copy(text) for name, text in templates.items()}
    tests = guesses.tests_of(canaries)
    for canary in canaries:
        if canary.secret and canary.origin in fail_to_pass:
            test = tests[canary.origin]
            copy = canary.copy or canary.id.partition("[")[0].rpartition("::")[2]
            kinds.setdefault(test, set()).add(canary.kind)
            shown.setdefault(test, set()).add(texts.get(canary.template, {}).get(copy, ""))
    return sum(log2(len(values)) for test, values in shown.items() if len(kinds[test]) > 1)


def _values_by_copy(template: bytes) -> dict[str, str]:
    """Each function of a template without its name and its negations, by its name."""
    held = "TOKEN_IN_A_NAME"
    try:
        tree = _Positive().visit(tree_of(template.replace(b"{token}", held.encode())))
    except (SyntaxError, ValueError):
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and held in node.name:
            name, node.name = node.name, ""
            found[name.replace(held, "{token}")] = ast.dump(node)
    return found


class _Positive(ast.NodeTransformer):
    """Takes the negations out of assertions."""

    OPERATORS = {ast.NotEq: ast.Eq, ast.NotIn: ast.In, ast.IsNot: ast.Is}
    METHODS = {turned: name for name, turned in POSITIVE.items()}

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        node.ops = [self.OPERATORS.get(type(op), type(op))() for op in node.ops]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = self.METHODS.get(node.attr, node.attr)
        return node
