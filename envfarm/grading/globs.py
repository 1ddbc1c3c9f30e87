"""Globs over paths with `/`, in which `**` spans folders. Pure.

Paths are hostile, patterns are not. A path is read once, character by character, for all patterns together, however deep it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

REMEMBERED = 1 << 14
"""Steps that an automaton caches. Hostile names have any character of Unicode, so the cache needs a bound."""


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A predicate on relative paths: whether one of the patterns matches the path or a folder above it. Not thread-safe.

    `*` and `?` stay within a folder, `**` spans folders (`**/x` matches `x` as well), `[…]` is a set. Letter case counts. A folder that
    successive paths share is read once.
    """
    return _Automaton(patterns).matches


class _Place(NamedTuple):
    """A position in a pattern, and the positions that can follow it."""

    onward: Callable[[str], bool]
    """Accepts the characters that lead to the next place."""
    stay: Callable[[str], bool]
    """Accepts the characters after which this place still holds."""
    skips: tuple[int, ...] = ()
    """Distances to the places that are reached without reading a character."""
    is_end: bool = False


class _State:
    """The places that are possible after part of a path was read, and a cache of the states that follow."""

    def __init__(self, places: frozenset[int], *, is_end: bool) -> None:
        self.places = places
        self.is_end = is_end
        self.after: dict[str, _State] = {}


class _Automaton:
    """All patterns at once, as a deterministic automaton whose states are made when a path first reaches them."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._places: list[_Place] = []
        self._states: dict[frozenset[int], _State] = {}
        self._remembered = 0
        starts = []
        for pattern in patterns:
            starts.append(len(self._places))
            self._places += _places(pattern)
        self._start = self._state(starts)
        self._folder, self._in_folder = "", self._start

    def matches(self, path: str) -> bool:
        folder, slash, name = path.rpartition("/")
        if folder != self._folder:
            self._folder, self._in_folder = folder, self._read(self._start, folder)
        return self._read(self._in_folder, slash + name).is_end

    def _read(self, state: _State, text: str) -> _State:
        for character in text:
            state = state.after.get(character) or self._step(state, character)
        return state

    def _step(self, state: _State, character: str) -> _State:
        if self._remembered >= REMEMBERED:
            for known in self._states.values():
                known.after.clear()
            self._states, self._remembered = {self._start.places: self._start}, 0
        here = [(n, self._places[n]) for n in state.places]
        reached = [n + 1 for n, place in here if place.onward(character)] + [n for n, place in here if place.stay(character)]
        state.after[character] = following = self._state(reached)
        self._remembered += 1
        return following

    def _state(self, reached: list[int]) -> _State:
        """The state of these places and of all that are reached from them without reading a character."""
        places: set[int] = set()
        while reached:
            n = reached.pop()
            places.add(n)
            reached += [n + skip for skip in self._places[n].skips if n + skip not in places]
        key = frozenset(places)
        if key not in self._states:
            self._states[key] = _State(key, is_end=any(self._places[n].is_end for n in key))
        return self._states[key]


def _any(_: str) -> bool:
    return True


def _none(_: str) -> bool:
    return False


def _in_name(character: str) -> bool:
    return character != "/"


_END = (_Place("/".__eq__, _none, is_end=True), _Place(_none, _any, is_end=True))
"""After a pattern the path ends, or continues below the match."""


@lru_cache(maxsize=4096)
def _places(pattern: str) -> tuple[_Place, ...]:
    out: list[_Place] = []
    i = 0
    while i < len(pattern):
        if pattern.startswith("**/", i):  # nothing, or anything that ends with a slash
            out += [_Place(_none, _none, (1, 2)), _Place("/".__eq__, _any)]
            i += 3
        elif pattern.startswith("**", i):
            out.append(_Place(_none, _any, (1,)))
            i += 2
        elif pattern[i] == "*":
            out.append(_Place(_none, _in_name, (1,)))
            i += 1
        elif pattern[i] == "?":
            out.append(_Place(_in_name, _none))
            i += 1
        elif pattern[i] == "[" and (end := pattern.find("]", i + 2)) > 0:
            out.append(_Place(_set(pattern[i + 1 : end]), _none))
            i = end + 1
        else:
            out.append(_Place(pattern[i].__eq__, _none))
            i += 1
    return (*out, *_END)


def _set(inner: str) -> Callable[[str], bool]:
    inner = inner.replace("\\", "\\\\")
    found = re.compile("[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]")
    return lambda character: found.fullmatch(character) is not None
