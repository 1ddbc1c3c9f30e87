"""A small contextual policy over single edits: given an issue, which place in the file does it complain about? Pure Python, no I/O.

Used by `trainer_loop.py`. The policy sees a task only through its words and its code, never its name, and learns by REINFORCE.
"""

import difflib
import io
import math
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

OPPOSITES = (("min", "max"), ("<", "<="), (">", ">="), ("and", "or"), ("+", "-"), ("==", "!="), ("True", "False"), ("any", "all"))
SWAPS = {one: other for pair in OPPOSITES for one, other in (pair, pair[::-1])}
SHAPES = {tokenize.NAME: "name", tokenize.NUMBER: "number", tokenize.STRING: "text"}
Features = Mapping[str, float]


class Edit(NamedTuple):
    """One place of a file said the other way round."""

    patch: str
    """A unified diff."""
    kind: str
    """What becomes of what, between what: `name <→<= number`."""
    around: frozenset[str]
    """The words of the function up to the place."""


def edits_of(path: str, source: str) -> list[Edit]:
    """Everything that the rule can say the other way round in a Python file, in the file's order."""
    lines = source.splitlines(keepends=True)
    found = []
    for row, start, end, kind, new in _places(source):
        line = lines[row - 1]
        changed = [*lines[: row - 1], line[:start] + new + line[end:], *lines[row:]]
        patch = "".join(difflib.unified_diff(lines, changed, f"a/{path}", f"b/{path}"))
        begin = max((n for n in range(row) if lines[n].startswith("def ")), default=0)
        found.append(Edit(patch, kind, words("".join(lines[begin:row]))))
    return found


def _places(source: str) -> Iterator[tuple[int, int, int, str, str]]:
    """Line (from 1), columns, kind and the new text of each place."""
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    for before, token, after, last in zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False):
        row, column = token.start
        if (before.string, token.string, after.string) == ("[", "0", "]"):
            yield row, column, token.end[1], "first→last", "-1"
        elif (before.string, token.string, after.string, last.string) == ("[", "-", "1", "]"):
            yield row, column, after.end[1], "last→first", "0"
        elif token.type in {tokenize.NAME, tokenize.OP} and token.string in SWAPS:
            new = SWAPS[token.string]
            yield row, column, token.end[1], f"{_shape(before)} {token.string}→{new} {_shape(after)}", new


def _shape(token: tokenize.TokenInfo) -> str:
    return SHAPES.get(token.type, token.string)


def words(text: str) -> frozenset[str]:
    """The words of a text or of code, names taken apart, in small letters."""
    return frozenset(re.findall(r"[a-z]+", text.lower()))


def features_of(instruction: str, edit: Edit) -> Features:
    """Each word of the instruction with the edit's kind; and how much of what stands around the place the instruction speaks of."""
    asked = words(instruction)
    weight = 1 / math.sqrt(len(asked) + 1)
    paired = {f"{word} & {edit.kind}": weight for word in asked}
    return {**paired, edit.kind: weight, "spoken of": len(asked & edit.around) / (len(edit.around) + 1)}


class Policy:
    """A softmax over what it may choose, linear in features. All choices are as likely at first."""

    def __init__(self) -> None:
        self._weights: dict[str, float] = defaultdict(float)

    def chances(self, choices: Sequence[Features]) -> list[float]:
        """How likely each choice is; they sum to 1."""
        scores = [sum(self._weights.get(name, 0.0) * value for name, value in choice.items()) for choice in choices]
        heights = [math.exp(score - max(scores)) for score in scores]
        return [height / sum(heights) for height in heights]

    def learn(self, choices: Sequence[Features], group: Sequence[tuple[int, float]], *, rate: float) -> None:
        """A step up the gradient for a group of (choice, reward), with the group's mean reward as the baseline."""
        if not group:
            return
        baseline = sum(reward for _, reward in group) / len(group)
        chances = self.chances(choices)
        pull = [0.0] * len(choices)
        for chosen, reward in group:
            for n, chance in enumerate(chances):
                pull[n] += (reward - baseline) * ((n == chosen) - chance) / len(group)
        for choice, strength in zip(choices, pull, strict=True):
            for name, value in choice.items():
                self._weights[name] += rate * strength * value
