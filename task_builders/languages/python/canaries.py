"""Canaries from a Python project's own tests: copies under names to be drawn, some with one assertion turned around.

Called once when a task is made; what does not behave at the fix is then dropped (`SandboxGrader.check_canaries`, `without`). Copies of
FAIL_TO_PASS tests come first: run where the originals are not to be seen, only right code can tell the inverted ones among them. Pure.
"""

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from envfarm.core.plan import Canary, TestPlan
from task_builders.languages.python.assertions import TestFunction, inversions, restatements
from task_builders.languages.python.source_edits import Edit, Source

TOKEN = "{token}"  # noqa: S105 - a placeholder's name
MODULES_MAX = 4
TESTS_PER_MODULE_MAX = 12
IDS_PER_TEST_MAX = 8
ARRANGEMENTS = 4
WORDS = (
    "again basic both case direct extra first inner late long many mixed more nested "
    "other outer plain second short simple small third twice wide"
)


@dataclass(frozen=True)
class CanarySet:
    """What a plan and its sealed files gain."""

    canaries: tuple[Canary, ...]
    templates: dict[str, bytes]
    """By name, as they go under `tests/canaries/`."""
    notes: tuple[str, ...]
    """What could not be had, for the task's report."""


@dataclass(frozen=True)
class _Test:
    """A test function or method with the ids that pass at the fix."""

    node: TestFunction
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    wanted: bool
    """Whether one of its ids is in FAIL_TO_PASS."""


def make(files: Mapping[str, bytes], fail_to_pass: Collection[str], pass_to_pass: Collection[str], *, seed: str) -> CanarySet:
    """Make canaries of the tests in `files` (path in the work dir → text at the fix) whose ids are given.

    The same input and seed give the same canaries. A module that cannot be read is left out, and noted.
    """
    notes: list[str] = []
    canaries: list[Canary] = []
    templates: dict[str, bytes] = {}
    wanted = frozenset(fail_to_pass)
    passing = _by_module([*fail_to_pass, *pass_to_pass])
    modules = [m for m in passing if m in files and m.endswith(".py")]
    modules.sort(key=lambda m: (-sum(test in wanted for test in passing[m]), m))
    for n, module in enumerate(modules[:MODULES_MAX]):
        chance = Random(f"{seed}\0{module}")  # noqa: S311 - reproducible; what is drawn is sealed
        try:
            source = Source(files[module])
        except (SyntaxError, ValueError) as e:
            notes.append(f"{module} is not read by this Python: {e}")
            continue
        if TOKEN.encode() in source.data:
            notes.append(f"{module} holds the text {TOKEN}")
            continue
        for k, (text, members) in enumerate(_arrangements(source, module, _tests(source, passing[module], wanted), chance)):
            name = f"{n}-{k}.py"
            templates[name] = text
            canaries += [replace(c, template=name) for c in members]
    kinds = {(c.kind, c.origin in wanted) for c in canaries}
    if not any(kind == "inverted" for kind, _ in kinds):
        notes.append("no test could be inverted: answers cannot be told from honest results")
    if ("renamed", True) not in kinds:
        notes.append("no test that must come to pass could be renamed: it may be answered for by its name")
    return CanarySet(tuple(canaries), templates, tuple(notes))


def without(plan: TestPlan, answered: Mapping[Canary, bool]) -> TestPlan:
    """The plan with those canaries alone that behaved in every run. Their templates stay: a text may hold others."""
    return replace(plan, canaries=tuple(c for c in plan.canaries if answered.get(c, False)))


def _by_module(ids: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for test in dict.fromkeys(ids):
        found.setdefault(test.split("::", 1)[0], []).append(test)
    return found


def _tests(source: Source, ids: Sequence[str], wanted: Collection[str]) -> list[_Test]:
    """The tests of a module that have passing ids, in its order."""
    by_name: dict[str, list[str]] = {}
    for test in ids:
        by_name.setdefault(test.split("::", 1)[-1].split("[", 1)[0], []).append(test)
    found = []
    for node, classes in _functions(source.tree.body, ()):
        own = by_name.get("::".join([*classes, node.name]), [])
        if own:
            found.append(_Test(node, classes, tuple(own), any(test in wanted for test in own)))
    return found


def _functions(body: Sequence[ast.stmt], classes: tuple[str, ...]) -> list[tuple[TestFunction, tuple[str, ...]]]:
    found: list[tuple[TestFunction, tuple[str, ...]]] = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((node, classes))
        elif isinstance(node, ast.ClassDef):
            found += _functions(node.body, (*classes, node.name))
    return found


def _arrangements(source: Source, module: str, tests: Sequence[_Test], chance: Random) -> list[tuple[bytes, list[Canary]]]:
    """Copies of a module in which each test is either renamed or inverted; a pair of them shows each test both ways."""
    if not tests:
        return []
    chosen = sorted(tests, key=lambda t: (not t.wanted, chance.random()))[:TESTS_PER_MODULE_MAX]
    ways = [inversions(source, t.node, chance) for t in chosen]
    able = [n for n, found in enumerate(ways) if found]
    made = []
    for _ in range(ARRANGEMENTS // 2):
        side = [chance.random() < 0.5 for _ in chosen]  # noqa: PLR2004 - an even chance
        for group in ([n for n in able if chosen[n].wanted], able):
            if len(group) > 1 and len({side[n] for n in group}) == 1:
                side[group[0]] = not side[group[0]]
        for flip in (False, True):
            inverted = {n: chance.choice(ways[n]) for n in able if side[n] != flip}
            made.append(_arrangement(source, module, chosen, inverted, chance))
    return made


def _arrangement(
    source: Source, module: str, chosen: Sequence[_Test], inverted: Mapping[int, Edit], chance: Random
) -> tuple[bytes, list[Canary]]:
    destination = _destination(module)
    edits = _removals(source, {id(t.node) for t in chosen})
    canaries: list[Canary] = []
    words = chance.sample(WORDS.split(), len(chosen))
    for n, (test, word) in enumerate(zip(chosen, words, strict=True)):
        name = _new_name(test.node.name, word)
        edits.append(_rename(source, test.node, name))
        said_anew = restatements(source, test.node)
        if n in inverted:
            edits.append(inverted[n])
        elif said_anew and chance.random() < 0.5:  # noqa: PLR2004 - an even chance
            edits.append(chance.choice(said_anew))
        for origin in test.ids[:IDS_PER_TEST_MAX]:
            parameters = origin[origin.index("[") :] if "[" in origin else ""
            canary = "::".join([destination, *test.classes, name + parameters])
            canaries.append(Canary("inverted" if n in inverted else "renamed", "", destination, canary, origin))
    return source.edited(edits), canaries


def _destination(module: str) -> str:
    folder, _, file = module.rpartition("/")
    name = f"{TOKEN}_test.py" if file.endswith("_test.py") else f"test_{TOKEN}.py"
    return f"{folder}/{name}" if folder else name


def _new_name(name: str, word: str) -> str:
    prefix = re.match(r"test_?|[^_]*_?", name)
    start = prefix.group(0) if prefix else ""
    return f"{start if start.endswith('_') else start + '_'}{TOKEN}_{word}"


def _rename(source: Source, node: TestFunction, name: str) -> Edit:
    start, end = source.span(node)
    found = re.compile(rb"def\s+" + node.name.encode() + rb"\b").search(source.data, start, end)
    if found is None:
        raise ValueError(f"the definition of {node.name} is not where the syntax tree says")
    return Edit(found.end() - len(node.name.encode()), found.end(), name)


def _removals(source: Source, kept: Collection[int]) -> list[Edit]:
    """Edits that take out the tests that are not chosen."""
    edits: list[Edit] = []
    _take_out(source, source.tree.body, kept, edits, in_class=False)
    return edits


def _take_out(source: Source, body: Sequence[ast.stmt], kept: Collection[int], edits: list[Edit], *, in_class: bool) -> None:
    left = len(body)
    for node in body:
        if isinstance(node, ast.ClassDef):
            _take_out(source, node.body, kept, edits, in_class=True)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test") and id(node) not in kept:
            if any(isinstance(d, ast.Attribute | ast.Name | ast.Call) and "fixture" in source.text(d) for d in node.decorator_list):
                continue
            left -= 1
            start = min([source.span(node)[0], *(source.span(d)[0] - 1 for d in node.decorator_list)])
            edits.append(Edit(start, source.span(node)[1], "pass" if in_class and left == 0 else ""))
