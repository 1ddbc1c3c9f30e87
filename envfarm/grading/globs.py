"""Globs over paths with `/`, in which `**` spans folders. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """A predicate on relative paths: whether one of the patterns matches the path or a folder above it.

    `*` and `?` stay within a folder, `**` spans folders (`**/x` matches `x` as well), `[…]` is a set. Letter case counts.
    """
    if not patterns:
        return lambda _: False
    whole = re.compile("|".join(f"(?:{_regex(p)})" for p in patterns), re.DOTALL)

    def matches(path: str) -> bool:
        parts = path.split("/")
        return any(whole.fullmatch("/".join(parts[:n])) for n in range(1, len(parts) + 1))

    return matches


def _regex(pattern: str) -> str:
    out, i = [], 0
    while i < len(pattern):
        if pattern.startswith("**/", i):
            out.append("(?:.*/)?")
            i += 3
        elif pattern.startswith("**", i):
            out.append(".*")
            i += 2
        elif pattern[i] == "*":
            out.append("[^/]*")
            i += 1
        elif pattern[i] == "?":
            out.append("[^/]")
            i += 1
        elif pattern[i] == "[" and (end := pattern.find("]", i + 2)) > 0:
            inner = pattern[i + 1 : end].replace("\\", "\\\\")
            out.append("[" + ("^" + inner[1:] if inner[0] in "!^" else inner) + "]")
            i = end + 1
        else:
            out.append(re.escape(pattern[i]))
            i += 1
    return "".join(out)
