"""Detects programs in an instruction that solve the task. Pure.

Askers often want a shorter program than one that works, or later add how they solved it. A piece of code gives the task away if it is a
program that is not written differently (`independence.another_way`) from a known solution.
"""

import re
from collections.abc import Iterator, Sequence

from envfarm.core.task import Task
from task_builders.questions import programs
from task_builders.questions.independence import WORDS, another_way
from task_builders.validation.leak import COMMONPLACE, MIN_LINE_CHARS

MIN_WORDS = 3
"""A piece of code with fewer different words only names a command or an option."""
TO_WRITE = "## What to write"
"""The heading after the asker's part of an instruction."""
CODE = re.compile(r"^```(?P<language>\w*)\n(?P<block>.*?)^```$|`(?P<inline>[^`\n]+)`", re.MULTILINE | re.DOTALL)


def gives_away(code: str, known: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a piece of code is a program that is written like one of those that solve the task.

    Args:
        code: an inline piece or a block.
        known: programs that solve the task.
        names: of the files that are read; they are ignored.
    """
    words = set(WORDS.findall(code)) - set(WORDS.findall(" ".join(names)))
    if len(words) < MIN_WORDS or not programs.parse(f"{code.rstrip()}\n"):
        return False
    return any(not another_way(code, program, names) for program in known)


def in_instruction(task: Task) -> list[str]:
    """The pieces of the asker's part of an instruction that give the task away, and lines of its program that occur there verbatim."""
    shown = {case.folder for case in task.plan.cases if case.visible}
    given = [data.decode() for path, data in task.tests.items() if path.split("/")[1] in shown]
    program, asked = task.solution["program"].decode(), task.instruction.partition(TO_WRITE)[0]
    names = task.plan.cases[0].inputs
    found = (piece for piece in pieces(asked) if not any(piece.strip() in text for text in given))
    lines = (line.strip() for line in program.splitlines()[1:])
    own = [
        line for line in lines if len(line) >= MIN_LINE_CHARS and not COMMONPLACE.match(line) and not any(line in text for text in given)
    ]
    return [piece for piece in found if gives_away(piece, [program], names)] + [line for line in own if line in asked]


def pieces(text: str) -> Iterator[str]:
    """The pieces of code of an instruction: blocks, and code within sentences."""
    return (match["block"] or match["inline"] or "" for match in CODE.finditer(text))
