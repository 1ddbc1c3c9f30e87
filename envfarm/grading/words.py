"""Names for canaries: drawn anew for each grading, in the style of the plan's own test names. Pure: randomness comes from a token."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from envfarm.core.plan import TestPlan

PLAIN = (
    "accepts after all allows always before both builds chain check close combined copy custom default detects direct each edge empty "
    "error every explicit extra falls fast final first fixed from full handles ignores inner into invalid keeps large last late length "
    "level like limit list local long loop lower makes many mapping match mixed multiple name named nested never none normal nothing "
    "number object only open option order other outer over pair parent part path plain raises range read repeated reset result returns "
    "reverse round same second sequence several shared short simple single size small sorted source special stable start state strict "
    "string sub text twice type unknown unused update upper uses valid value values when whole with without works zero"
)
"""Words that are common in test names, for suites with few words of their own."""


WORDS_MIN = 30
"""With fewer, names would repeat; then any will do."""


def generator(*parts: str) -> random.Random:
    """A random generator seeded by a secret and its purpose."""
    return random.Random("\0".join(parts))  # noqa: S311 - the secret part is drawn by the caller from the operating system


def vocabulary(ids: Sequence[str]) -> tuple[str, ...]:
    """Lower-case words of the test names, and common words."""
    names = (re.sub(r"\[.*", "", test.rsplit("::", 1)[-1]) for test in ids)
    own = {word for name in names for word in re.findall(r"[a-z]{3,12}", name)} - {"test", "tests"}
    return tuple(sorted(own | set(PLAIN.split())))


def draw(plan: TestPlan, chance: random.Random, *, taken: Sequence[str] = ()) -> str:
    """A name such as `empty_keeps_order` that occurs in no id of the plan and is not taken.

    It has no word of the commands' options, which may select or leave out tests by their names (pytest's `-k "not large"`).
    """
    ids = plan.fail_to_pass + plan.pass_to_pass
    selecting, words, known = selecting_words(plan), vocabulary(ids), "\n".join(ids)
    unnamed = [word for word in words if not any(part in word for part in selecting)]
    if len(unnamed) >= WORDS_MIN:
        words = tuple(unnamed)
    while True:
        word = "_".join(chance.sample(words, 3))
        if word not in known and word not in taken:
            return word


def selecting_words(plan: TestPlan) -> frozenset[str]:
    """Lower-case words of three letters or more in the commands' arguments, but for programs and files."""
    given = [argument for command in plan.commands for argument in command.argv if "/" not in argument]
    return frozenset(word for argument in given if argument not in plan.test_files for word in re.findall(r"[a-z]{3,}", argument.lower()))
