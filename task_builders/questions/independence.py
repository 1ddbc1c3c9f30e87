"""Whether two programs were written without each other, by their texts alone. Pure."""

import keyword
import re
from collections.abc import Sequence

from task_builders.questions.joining import Solution

WORDS = re.compile(r"\w+")
TOKENS = re.compile(r"\w+|[^\w\s]")
MIN_PIECES = 12
"""A program with fewer pieces of three tokens is too short for their order to tell a copy."""
ALIKE = 0.6
"""Two programs are the same way if they share at least this share of the words of the shorter one."""


def another_way(one: str, other: str, names: Sequence[str] = ()) -> bool:
    """Whether two programs are written differently: neither is the other with some words changed, or a part of it. `names` (of the files
    that both read) are ignored.
    """
    words = [set(WORDS.findall(text)) - set(WORDS.findall(" ".join(names))) for text in (one, other)]
    return len(words[0] & words[1]) < ALIKE * min(map(len, words))


def are_independent(one: Solution, other: Solution) -> bool:
    """Whether the programs of two answers were written without each other. Two writers use the same functions for the same thing, and names
    that the question gives: what tells a copy is that the pieces also come in the same order.
    """
    imposed = (*one.names, *other.names, *one.texts, *keyword.kwlist)
    if another_way(one.program.text, other.program.text, imposed):
        return True
    tokens = [TOKENS.findall(each.program.text) for each in (one, other)]
    pieces = [set(zip(each, each[1:], each[2:], strict=False)) for each in tokens]
    least = min(map(len, pieces))
    return least >= MIN_PIECES and len(pieces[0] & pieces[1]) < least / 2
