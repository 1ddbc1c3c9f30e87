"""How hard a task looks before anybody has tried it, by its reference solution. Pure.

It orders a catalogue that nothing has been run on yet. Once episodes are there, their pass rates say more (`TaskInfo.pass_rate`).
"""

import re
from typing import Literal

from envfarm.core.task import Task

Difficulty = Literal["easy", "medium", "hard", "unknown"]
PROGRAM, PATCH = "program", "patch.diff"
"""The file of a solution that tells its length."""
SHORT_CHARACTERS, LONG_CHARACTERS = 80, 300
"""A program of fewer characters without comments is easy, one of more is hard."""
MANY_TOOLS = 3
SHORT_LINES, LONG_LINES, MANY_FILES = 5, 40, 4
"""A fix that changes no more lines is easy; one that changes more, or so many files, is hard."""
CODE = re.compile(r"^\s*(?!#)\S.*$", re.MULTILINE)
CHANGED = re.compile(rb"^[+-](?![+-]{2} )", re.MULTILINE)
FILES = re.compile(rb"^diff --git ", re.MULTILINE)


def estimate(task: Task) -> Difficulty:
    """By the length of the reference solution and the number of its tools or files; unknown for a solution of another form."""
    if program := task.solution.get(PROGRAM):
        characters = sum(len(line.strip()) for line in CODE.findall(program.decode(errors="replace")))
        return _band(characters, SHORT_CHARACTERS, LONG_CHARACTERS, harder=len(task.keywords) >= MANY_TOOLS)
    if patch := task.solution.get(PATCH):
        return _band(len(CHANGED.findall(patch)), SHORT_LINES, LONG_LINES, harder=len(FILES.findall(patch)) >= MANY_FILES)
    return "unknown"


def _band(size: int, short: int, long: int, *, harder: bool) -> Difficulty:
    if size > long or harder:
        return "hard"
    return "easy" if size <= short else "medium"
