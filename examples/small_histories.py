"""Generates small git histories to build tasks from in about a minute: packages with one bug per module, and the commits that fix them.

The histories depend only on word lists and a seed, and go through the build pipeline like any other history. Training tasks and held-out
tasks come from two repositories, which share neither their subject nor the wording of their issues.
"""

import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

SETTINGS = ("user.name=Ann", "user.email=ann@example.invalid", "commit.gpgsign=false")
FIRST_DAY_S = 1_600_000_000
PROJECT = """[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "1.0"
requires-python = ">=3.9"

[tool.setuptools]
packages = ["{name}"]
"""
SOURCE = """[[source]]
kind = "git"
repository = "{name}"
name = "yards/{name}"
licence = "MIT"
commits = {{ newest = {newest} }}
"""
MODULE = '''"""What the yard knows of its {things}."""


def {things}_{peak_word}(weights, spare=0):
    """How much the {peak_doc} of the {things} weighs, with what is carried spare."""
    return {peak}(weights) + spare


def {thing}_allowed(weight, limit):
    """Whether a {thing} may pass: it has a weight, and the limit is {limit_doc}."""
    return 0 < weight {limit} limit


def {ends_word}_{thing}(names):
    """The {thing} that came {ends_doc}; nothing where there is none."""
    return names[{ends}] if len(names) > 0 else None


def {things}_can_leave(loaded, paid):
    """Whether the {things} can leave: {both_doc}."""
    return loaded {both} paid


def count_heavy_{things}(weights, least):
    """How many {things} weigh no less than that."""
    return sum(1 for weight in weights if weight >= least)
'''
OLD_TESTS = """import pytest

from {name}.{things} import (
    count_heavy_{things},
    {ends_word}_{thing},
    {thing}_allowed,
    {things}_can_leave,
    {things}_{peak_word},
)


def test_one_{thing}_alone():
    assert {things}_{peak_word}([4], 2) == 6
    assert {ends_word}_{thing}(["a"]) == "a"
    assert {ends_word}_{thing}([]) is None


def test_{thing}_without_weight_is_not_allowed():
    assert not {thing}_allowed(0, 5)
    assert {thing}_allowed(3, 5)
    assert not {thing}_allowed(7, 5)


def test_{things}_leave_when_all_is_done():
    assert {things}_can_leave(True, True)
    assert not {things}_can_leave(False, False)


def test_count_heavy_{things}():
    assert count_heavy_{things}([1, 5, 9], 5) == 2
    with pytest.raises(TypeError):
        count_heavy_{things}(None, 1)
"""


class Rule(NamedTuple):
    """The right and the wrong form of a function, with a test and issue texts."""

    slot: str
    """The place in `MODULE`."""
    right: str
    wrong: str
    words: Mapping[str, str]
    """Words that the module's texts then contain."""
    tests: tuple[str, ...]
    """Four assertions, each a test of its own. All fail with `wrong`."""
    complaints: tuple[str, ...]
    """Issue texts; the last is reserved for held-out histories."""


RULES = (
    Rule(
        "peak", "max", "min", {"peak_word": "heaviest", "peak_doc": "heaviest"},
        ("{things}_heaviest([4, 9, 6]) == 9", "{things}_heaviest([4, 9, 6], 1) == 10", "{things}_heaviest([2, 8]) == 8",
         "{things}_heaviest([7, 3, 5], 2) == 9"),
        ("`{things}_heaviest` tells the lightest\n\nThe heaviest was wanted, and the scale shows the lightest of all.",
         "The weight of the {things} is far too small\n\nThe crane needs to know the heaviest, and gets the lightest.",
         "The crane lifts too little\n\nIt asks for the heaviest of the {things} and is told the weight of the lightest one."),
    ),
    Rule(
        "peak", "min", "max", {"peak_word": "lightest", "peak_doc": "lightest"},
        ("{things}_lightest([4, 9, 6]) == 4", "{things}_lightest([4, 9, 6], 1) == 5", "{things}_lightest([2, 8]) == 2",
         "{things}_lightest([7, 3, 5], 2) == 5"),
        ("`{things}_lightest` tells the heaviest\n\nThe lightest was wanted, and the scale shows the heaviest of all.",
         "The weight of the {things} is far too large\n\nThe bridge needs to know the lightest, and gets the heaviest.",
         "The bridge closes too early\n\nIt asks for the lightest of the {things} and is told the weight of the heaviest one."),
    ),
    Rule(
        "limit", "<=", "<", {"limit_doc": "included"},
        ("{thing}_allowed(5, 5)", "{thing}_allowed(1, 1)", "{thing}_allowed(30, 30)", "{thing}_allowed(7, 7)"),
        ("`{thing}_allowed` refuses exactly the limit\n\nA weight that equals the limit is included by the rules, and is refused.",
         "A {thing} of just the limit may not pass\n\nThe limit itself is included, so it should be let through.",
         "Guards refuse a {thing} at the limit\n\nThe limit is included: they should let it through, and it may not pass."),
    ),
    Rule(
        "limit", "<", "<=", {"limit_doc": "excluded"},
        ("not {thing}_allowed(5, 5)", "not {thing}_allowed(1, 1)", "not {thing}_allowed(30, 30)", "not {thing}_allowed(7, 7)"),
        ("`{thing}_allowed` accepts exactly the limit\n\nA weight that equals the limit is excluded by the rules, and is accepted.",
         "A {thing} of just the limit may pass\n\nThe limit itself is excluded, so it should be turned away.",
         "Guards accept a {thing} at the limit\n\nThe limit is excluded: they should turn it away, and it may pass."),
    ),
    Rule(
        "ends", "-1", "0", {"ends_word": "latest", "ends_doc": "last"},
        ('latest_{thing}(["a", "b", "c"]) == "c"', 'latest_{thing}(["n", "m"]) == "m"', "latest_{thing}([3, 8, 5]) == 5",
         'latest_{thing}(["x", "y", "x", "z"]) == "z"'),
        ("`latest_{thing}` gives the first one\n\nThe {thing} that came last is asked for; the first one is given.",
         "The board shows an old {thing}\n\nIt wants the latest, the one that came last, and has the first.",
         "Old news at the gate\n\nThe {thing} that came last should be called, and the first is called again."),
    ),
    Rule(
        "ends", "0", "-1", {"ends_word": "earliest", "ends_doc": "first"},
        ('earliest_{thing}(["a", "b", "c"]) == "a"', 'earliest_{thing}(["n", "m"]) == "n"', "earliest_{thing}([3, 8, 5]) == 3",
         'earliest_{thing}(["x", "y", "x", "z"]) == "x"'),
        ("`earliest_{thing}` gives the last one\n\nThe {thing} that came first is asked for; the last one is given.",
         "The board shows a new {thing}\n\nIt wants the earliest, the one that came first, and has the last.",
         "Somebody jumps the queue\n\nThe {thing} that came first should be called, and the last is called before it."),
    ),
    Rule(
        "both", "and", "or", {"both_doc": "both are needed"},
        ("not {things}_can_leave(True, False)", "not {things}_can_leave(False, True)", "not {things}_can_leave(3, 0)",
         "not {things}_can_leave(0, 7)"),
        ("`{things}_can_leave` asks for one of the two\n\nThey leave when either is done. Both are needed: loaded, and paid.",
         "Unpaid {things} leave the yard\n\nBoth are needed before they can leave, and either is taken for enough.",
         "Empty {things} leave\n\nThey can leave when both are done, loaded and paid, and go with either."),
    ),
    Rule(
        "both", "or", "and", {"both_doc": "either is enough"},
        ("{things}_can_leave(True, False)", "{things}_can_leave(False, True)", "{things}_can_leave(3, 0)",
         "{things}_can_leave(0, 7)"),
        ("`{things}_can_leave` asks for the two of them\n\nThey wait until both are done. Either is enough: loaded, or paid.",
         "Paid {things} do not leave the yard\n\nEither is enough before they can leave, and both are asked for.",
         "Loaded {things} stay\n\nThey can leave when either is done, loaded or paid, and wait for both."),
    ),
)  # fmt: skip
SOUND = {"peak": "max", "limit": "<=", "ends": "-1", "both": "and"}
SOUND_WORDS = {
    "peak_word": "heaviest", "peak_doc": "heaviest", "limit_doc": "included", "ends_word": "latest", "ends_doc": "last",
    "both_doc": "both are needed",
}  # fmt: skip
THINGS = tuple(
    (f"{thing}s", thing)
    for thing in (
        "crate",
        "wagon",
        "barrel",
        "horse",
        "engine",
        "parcel",
        "statue",
        "anchor",
        "boiler",
        "turbine",
        "piano",
        "truck",
        "boulder",
        "tractor",
        "cabin",
        "wheel",
    )
)


TRAINING, HELD_OUT = "harbour", "station"
"""The names of the two histories."""


def write_both(to: Path, *, training: int, held_out: int) -> Path:
    """Write both histories (at most 8 commits each) below a directory. Returns the sources file that builds tasks from them."""
    sources = to / "sources.toml"
    if not sources.exists():
        shutil.rmtree(to, ignore_errors=True)  # left over from an interrupted run
        halves = [*RULES[::2], *RULES[1::2]]
        write(to / TRAINING, TRAINING, halves[:training], THINGS[:training], held_out=False, seed=0)
        write(to / HELD_OUT, HELD_OUT, halves[:held_out], THINGS[-held_out:], held_out=True, seed=1)
        counts = ((TRAINING, training), (HELD_OUT, held_out))
        sources.write_text("\n".join(SOURCE.format(name=name, newest=newest) for name, newest in counts))
    return sources


def write(to: Path, name: str, rules: Sequence[Rule], things: Sequence[tuple[str, str]], *, held_out: bool, seed: int) -> None:
    """Write a history: all modules with their bugs first, then a commit for each that fixes it and adds a test."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    modules = [_words(rule, *pair) | {"name": name} for rule, pair in zip(rules, things, strict=True)]
    files = {"pyproject.toml": PROJECT.format(name=name), f"{name}/__init__.py": f'"""The {name} yard."""\n'}
    for rule, words in zip(rules, modules, strict=True):
        files[f"{name}/{words['things']}.py"] = MODULE.format(**words | {rule.slot: rule.wrong})
        files[f"tests/test_{words['things']}.py"] = OLD_TESTS.format(**words)
    to.mkdir(parents=True)
    _git(to, 0, "init", "--quiet", "--initial-branch=main")
    _commit(to, 0, "Begin", files)
    for day, (rule, words) in enumerate(zip(rules, modules, strict=True), start=1):
        complaint = rule.complaints[-1] if held_out else draw.choice(rule.complaints[:-1])
        tests = (
            f"\n\ndef test_{words['thing']}_as_reported_{n}():\n    assert {asserted.format(**words)}\n"
            for n, asserted in enumerate(rule.tests, start=1)
        )
        fixed = {
            f"{name}/{words['things']}.py": MODULE.format(**words),
            f"tests/test_{words['things']}.py": OLD_TESTS.format(**words) + "".join(tests),
        }
        _commit(to, day, complaint.format(**words) + f"\n\nIt is in `{name}/{words['things']}.py`.", fixed)


def _words(rule: Rule, things: str, thing: str) -> dict[str, str]:
    return SOUND | SOUND_WORDS | dict(rule.words) | {rule.slot: rule.right, "things": things, "thing": thing}


def _commit(to: Path, day: int, message: str, files: Mapping[str, str]) -> None:
    for name, content in files.items():
        path = to / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    _git(to, day, "add", "--all")
    _git(to, day, "commit", "--quiet", "-m", message)


def _git(to: Path, day: int, *arguments: str) -> None:
    at = f"{FIRST_DAY_S + 86_400 * day} +0000"
    settled = [word for setting in SETTINGS for word in ("-c", setting)]
    dates = [f"GIT_AUTHOR_DATE={at}", f"GIT_COMMITTER_DATE={at}"]
    subprocess.run(["env", *dates, "git", "-C", str(to), *settled, *arguments], check=True, stdout=subprocess.DEVNULL)
