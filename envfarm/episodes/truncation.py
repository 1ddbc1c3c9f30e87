"""Cuts the middle out of long observations. Pure."""

from typing import NamedTuple


class Cut(NamedTuple):
    """A text within its limit."""

    text: str
    lost: bool


def cut(text: str, limit: int) -> Cut:
    """`text` in at most `limit` characters: its head and its tail, and between them a marker that says how much was cut.

    The ends matter most: the head has a command's first output, the tail a test run's result. If the limit has no room for the marker,
    only the head is kept.
    """
    if len(text) <= limit:
        return Cut(text, lost=False)
    # The marker for the whole text is the longest possible one: its numbers only get smaller.
    room = limit - len(_marker(text))
    if room < 2:  # noqa: PLR2004 - one character for each end
        return Cut(text[: max(limit, 0)], lost=True)
    head, tail = room - room // 2, room // 2
    return Cut(text[:head] + _marker(text[head : len(text) - tail]) + text[len(text) - tail :], lost=True)


def _marker(lost: str) -> str:
    lines = lost.count("\n")
    return f"\n[... {len(lost)} characters in {lines} lines left out ...]\n"
