"""How hard a task looks."""

import pytest

from envfarm.core import difficulty
from envfarm.testing import adder_task

LINE = "awk '{ print $1 }' file | sort | uniq -c\n"


@pytest.mark.parametrize(
    ("program", "tools", "band"),
    [
        (f"#!/bin/sh\n# a comment of any length {'x' * 400}\n{LINE}", ("awk",), "easy"),
        (f"#!/bin/sh\n{LINE * 3}", ("awk",), "medium"),
        (f"#!/bin/sh\n{LINE * 9}", ("awk",), "hard"),
        (f"#!/bin/sh\n{LINE}", ("awk", "sort", "uniq"), "hard"),
    ],
)
def test_a_program_is_as_hard_as_it_is_long(program: str, tools: tuple[str, ...], band: str) -> None:
    task = adder_task.make().model_copy(update={"solution": {"program": program.encode()}, "keywords": tools})
    assert difficulty.estimate(task) == band


@pytest.mark.parametrize(("lines", "files", "band"), [(2, 1, "easy"), (30, 2, "medium"), (30, 5, "hard"), (100, 1, "hard")])
def test_a_fix_is_as_hard_as_it_changes_much(lines: int, files: int, band: str) -> None:
    head = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n"
    patch = head * files + "+ x = 1\n" * (lines // 2) + "- x = 2\n" * (lines - lines // 2)
    assert difficulty.estimate(adder_task.make().model_copy(update={"solution": {"patch.diff": patch.encode()}})) == band


def test_another_solution_says_nothing() -> None:
    assert difficulty.estimate(adder_task.make()) == "unknown"
