"""Other values for the constants of a test module, of the same kind and look. Pure; used to make canaries.

A reader of the module must not recognize a replaced value by its look. So it is a value that the module's tests contain themselves, or one
made of words of the module; if the original contains a word of its own, so does the replacement.
"""

import ast
import re
from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from random import Random
from typing import Any

from task_builders.languages.python.source_edits import Source
from task_builders.languages.python.syntax import value_of

WORD = re.compile(r"[A-Za-z]{2,}")
NUMBER = re.compile(r"\d+")
TEXT_MAX = 400
OTHERS_MAX = 10
WINDOW = 7
"""Numbers around one that are tried in its place."""


class Literals:
    """The constants of one module."""

    def __init__(self, source: Source, project_words: Collection[str] = ()) -> None:
        """`project_words` are names in the project's own code, which the module may use even if it has not used them yet."""
        self._source = source
        self._project_words = sorted(project_words)
        self._text = source.data.decode(errors="replace")
        self._nearest: dict[str, list[str]] = {}

    @cached_property
    def _constants(self) -> Counter[str]:
        """How often each constant occurs, by its text."""
        return Counter(self._source.text(constant) for constant in constants_of([self._source.tree], self._source))

    @cached_property
    def _values(self) -> dict[str, Any]:
        """Each constant's value, by its text."""
        return {text: value_of(text) for text in self._constants}

    @cached_property
    def _words(self) -> Counter[str]:
        return Counter(WORD.findall(self._text))

    @cached_property
    def _said(self) -> list[str]:
        """Words in strings: material for new values."""
        return sorted({word for text in self._constants if text[-1] in "\"'" for word in WORD.findall(text)})

    def others(self, constant: ast.Constant, chance: Random, *, most: int = OTHERS_MAX) -> list[str]:
        """Texts for other values, the least conspicuous first; empty if the constant has no plain text."""
        if not is_plain(self._source, constant):
            return []
        text, value = self._source.text(constant), constant.value
        if value is None or isinstance(value, bool):
            return [other for other in ("None", "False", "True") if other != str(value)]
        if isinstance(value, int | float):
            found = self._numbers(text, value, chance)
        elif isinstance(value, str | bytes):
            found = [*self._composed(text, chance), *self._named(text, value)]
            found = [other for other in dict.fromkeys(found) if _differs(other, value)]
            looks = {other: self._conspicuous(text, other) for other in found}
            best = min(looks.values(), default=0)
            found = _by_likeness(text, [other for other in found if looks[other] == best])
        else:
            return []
        return [other for other in dict.fromkeys(found) if _differs(other, value)][:most]

    def _numbers(self, text: str, value: float, chance: Random) -> list[str]:
        named = [other for other, its in self._values.items() if type(its) is type(value) and other != text]
        named.sort(key=lambda other: abs(self._values[other] - value))
        step = 1 if isinstance(value, int) else 0.5
        below = chance.randint(0, WINDOW)  # so that the value's rank among the others tells nothing
        window = [value + n * step for n in range(-below, WINDOW + 1 - below) if n and (value < 0 or value + n * step >= 0)]
        fresh = [repr(other) for other in chance.sample(window, len(window)) if repr(other) not in self._constants]
        # A number that occurs elsewhere too is replaced by one that does, and a unique one by a new one.
        return [*named, *fresh] if self._constants[text] > 1 else [*fresh, *named]

    def _named(self, text: str, value: str | bytes) -> list[str]:
        """Those of the module's own texts that are most similar to this one."""

        def alike(other: str, its: object) -> bool:
            if type(its) is not type(value) or other == text or "\n" in other or len(other) > 2 * len(text) + 4:
                return False
            return bool(WORD.search(other)) == bool(WORD.search(text)) and (" " in other) == (" " in text)

        if text not in self._nearest:
            self._nearest[text] = _by_likeness(text, [other for other, its in self._values.items() if alike(other, its)], OTHERS_MAX)
        return self._nearest[text]

    def _composed(self, text: str, chance: Random) -> list[str]:
        """The text with one of its words or numbers replaced, or with two of them exchanged."""
        if len(text) > TEXT_MAX * 4 or text[:1].lower() == "f":
            return []
        found = []
        start = re.match(r"\w*(\"{3}|'{3}|\"|')", text)
        inner = [m for m in WORD.finditer(text) if start and m.start() >= start.end() and text[m.start() - 1] != "\\"]
        for match in chance.sample(inner, min(len(inner), 3)):
            found += [text[: match.start()] + word + text[match.end() :] for word in self._replacements(match.group(), chance)]
        numbers = [m for m in NUMBER.finditer(text) if text[m.start() - 1] not in "\\xuU"][:2]
        found += [text[: m.start()] + str(int(m.group()) + 1) + text[m.end() :] for m in numbers]
        if len({m.group().lower() for m in inner}) > 1:
            a, b = sorted(chance.sample(inner, 2), key=lambda m: m.start())
            if a.group().lower() != b.group().lower():
                found.append(text[: a.start()] + b.group() + text[a.end() : b.start()] + a.group() + text[b.end() :])
        return found

    def _replacements(self, word: str, chance: Random) -> list[str]:
        """Words to replace one: if it occurs once in the module, words that do not occur in it at all."""
        lonely = self._words[word] <= 1
        known = (w for w in self._project_words if w not in self._words) if lonely else iter(self._said)
        fitting = [_cased_as(word, w) for w in known if abs(len(w) - len(word)) <= 2 and w.lower() != word.lower()]  # noqa: PLR2004
        fitting = sorted({w for w in fitting if lonely or self._words[w]})
        return chance.sample(fitting, min(len(fitting), 2))

    def _conspicuous(self, text: str, other: str) -> int:
        """In how many countable ways the two differ.

        Counted are whether a value occurs elsewhere too, and whether it contains a word that does not.
        """
        mine = Counter(WORD.findall(text))

        def lonely(of: str) -> bool:
            return any(self._words[word] - mine[word] <= 0 for word in WORD.findall(of))

        elsewhere = (self._constants[text] > 1) != (self._constants[other] > 0)
        return elsewhere + (lonely(text) != lonely(other))


def _by_likeness(text: str, others: Sequence[str], most: int | None = None) -> list[str]:
    """The others (at most `most`), most similar first. Those that a cheap bound rules out are not compared."""
    wanted = len(others) if most is None else most
    matcher = SequenceMatcher(b=text[:TEXT_MAX], autojunk=False)

    def bound(other: str) -> float:
        matcher.set_seq1(other[:TEXT_MAX])
        return matcher.quick_ratio()

    bounds = [(-bound(other), n) for n, other in enumerate(others)]
    found: list[tuple[float, int]] = []
    for highest, n in sorted(bounds):
        if len(found) >= wanted and found[wanted - 1][0] < highest:
            break
        matcher.set_seq1(others[n][:TEXT_MAX])
        insort(found, (-matcher.ratio(), n))
    return [others[n] for _, n in found[:wanted]]


def is_plain(source: Source, node: ast.AST) -> bool:
    """Whether a constant's own text gives its value; parts of an f-string have none."""
    if not isinstance(node, ast.Constant) or node.value is Ellipsis:
        return False
    try:
        return bool(value_of(source.text(node)) == node.value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False


def constants_of(nodes: Iterable[ast.AST], source: Source) -> list[ast.Constant]:
    """The plain constants in nodes."""
    return [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Constant) and is_plain(source, n)]


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """Words in texts of code."""
    return frozenset(word for text in texts for word in WORD.findall(text) if len(word) > len("xx"))


def _differs(text: str, value: object) -> bool:
    try:
        other = value_of(text)
    except (ValueError, SyntaxError):
        return False
    return type(other) is type(value) and other != value


def _cased_as(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word.lower()


__all__: Sequence[str] = ("Literals", "constants_of", "is_plain", "words_of")
