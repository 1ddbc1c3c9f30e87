"""Whether an instruction and its input files are enough to solve a terminal task, and no more than that. Pure; called by `minting`, and by
`make`, which names the words that the asker's attempts alone tell.

Every instruction shows the visible input with its output, but an example is no rule. Enough is told where the asker says in words what is
wanted, where every word that a program must print stands in its input or in what is said, and where no threshold is known to the reference
program alone. What can be worked out (counts, sums, positions) need not be said.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal

from envfarm.core.candidate import Gate
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.terminal import giveaways
from task_builders.terminal.giveaways import TO_WRITE

WORD = re.compile(r"[A-Za-z]{3,}")
HASH = re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{7,40}\b")
"""Of a commit or a file: it is worked out, and letters in it are no words."""
FENCED = re.compile(r"^```$.*?^```$", re.MULTILINE | re.DOTALL)
"""Data and outputs; programs of the asker stand under the name of their language."""
NO_VALUES = frozenset({"nan", "none", "null", "true", "false"})
"""What programs write for values that have no words of their own."""
MIN_SAID = 6
"""Different words in the asker's part, its title included."""
TOLD = "the question tells a program that solves it"
UNTOLD = "the example alone holds words that must be printed"
SAYS_TOO_LITTLE = "the question says in words too little of what is wanted"
HIDDEN_THRESHOLD = "a threshold stands in the answer's program alone"
COMPARED = re.compile(r"(?:[<>]=?|[=!]=|-(?:eq|ne|lt|le|gt|ge))\s*-?(\d+(?:\.\d+)?)\b")
"""A number that a program of the shell, awk, jq or perl compares with."""
COMPARING = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "between", "isin", "clip", "cut", "head", "tail", "nlargest", "nsmallest"})
"""Functions and methods of tables whose numbers bound values or rows."""
QUERIES = frozenset({"query", "eval"})
"""Methods of tables that take comparisons as a text."""
COUNTED = "zero one two three four five six seven eight nine ten".split()  # noqa: SIM905 - a table for reading
COMMON = frozenset({"0", "1"})
"""Thresholds that mean none, some, or several, which are words without a number."""


def judge(task: Task) -> GateResult:
    """The gate. Its detail is one of few reasons where it is not passed."""
    unmet, thresholds, said = untold(task), hidden_thresholds(task), words_said(task.instruction)
    told = giveaways.told(task)
    faults = ((bool(told), TOLD), (said < MIN_SAID, SAYS_TOO_LITTLE), (bool(thresholds), HIDDEN_THRESHOLD), (bool(unmet), UNTOLD))
    fault = next((reason for holds, reason in faults if holds), "")
    fine = f"{len(task.plan.cases)} cases ask for no word that is not told; {said} words tell what is wanted"
    evidence = {"unmet": unmet, "thresholds": thresholds, "words": said, "told": told}
    return GateResult(gate=Gate.SUFFICIENCY, passed=not fault, detail=fault or fine, evidence=evidence)


def untold(task: Task) -> dict[str, list[str]]:
    """Cases that want words which nobody tells, and these: when a task is made, such cases are left out."""
    unmet: dict[str, list[str]] = {}
    for case in task.plan.cases:
        given = [task.tests[f"cases/{case.folder}/input/{path}"].decode() for path in case.inputs]
        if missing := unheard(task.tests[f"cases/{case.folder}/expected"].decode(), given, FENCED.sub("", task.instruction)):
            unmet[case.id] = missing[:5]
    return unmet


def unheard(output: str, inputs: Iterable[str], said: str) -> list[str]:
    """The words of an output that stand neither in its inputs, also as a part of a word, nor among the words that are said."""
    told = {word.casefold() for word in WORD.findall(said)} | NO_VALUES
    given = " ".join(inputs).casefold()
    return sorted(word for word in {word.casefold() for word in WORD.findall(HASH.sub("", output))} - told if word not in given)


def words_said(instruction: str) -> int:
    """How many different words the asker's part of an instruction has outside of code and data."""
    asked = re.sub(r"```.*?```|`[^`]*`", " ", instruction.partition(TO_WRITE)[0], flags=re.DOTALL)
    return len({word.casefold() for word in re.findall(r"[^\W\d_]{2,}", asked)})


def hidden_thresholds(task: Task) -> list[str]:
    """Numbers that the reference program compares with, and that neither the instruction's words nor a visible file hold."""
    shown = {case.folder for case in task.plan.cases if case.visible}
    inputs = [data.decode() for path, data in task.tests.items() if path.split("/")[1] in shown and "/input/" in path]
    said = f"{task.instruction.partition(TO_WRITE)[0]} {' '.join(inputs)}"
    texts = (said, re.sub(r"(?<=\d),(?=\d{3}\b)", "", said))  # a thousand may be written with a comma
    known = {_plain(number) for text in texts for number in re.findall(r"\d+(?:\.\d+)?", text)} | COMMON
    known |= {str(n) for n, word in enumerate(COUNTED) if re.search(rf"\b{word}\b", said, re.IGNORECASE)}
    return sorted({_plain(number) for number in _compared(task.solution["program"].decode())} - known)


def _plain(number: str) -> str:
    """One text for each number: `1000000` for `1e+06`, `2` for `2.0`."""
    return f"{Decimal(number).normalize():f}"


def _compared(program: str) -> set[str]:
    """The numbers that a program compares with, as texts and without their signs."""
    if not program.startswith("#!/usr/bin/env python"):
        return set(COMPARED.findall(program))
    try:
        nodes = list(ast.walk(ast.parse(program)))
    except SyntaxError:
        return set()
    sides = [side for node in nodes if isinstance(node, ast.Compare) for side in (node.left, *node.comparators)]
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    sides += [each for node in calls if _called(node) in COMPARING for each in _arguments(node)]
    values = [value for side in sides for value in _literals(side)]
    told = [each.value for node in calls if _called(node) in QUERIES for each in _arguments(node) if isinstance(each, ast.Constant)]
    queried = {number for text in told if isinstance(text, str) for number in COMPARED.findall(text)}
    return queried | {repr(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)}


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _literals(node: ast.expr) -> Iterator[object]:
    """What stands literally in an expression: a value, one behind a sign, or several in a list, tuple or set."""
    if isinstance(node, ast.UnaryOp):
        yield from _literals(node.operand)
    elif isinstance(node, ast.List | ast.Tuple | ast.Set):
        for each in node.elts:
            yield from _literals(each)
    elif isinstance(node, ast.Constant):
        yield node.value
