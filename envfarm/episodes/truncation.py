"""Long observations lose their middle. Pure; used by the machine for every text that a policy sees."""

from typing import NamedTuple


class Cut(NamedTuple):
    """A text that fits."""

    text: str
    lost: bool


def cut(text: str, limit: int) -> Cut:
    """`text` in at most `limit` characters: its head and its tail, with a marker between that says how much is lost.

    The two ends matter most: the head has the command's first words, the tail a test run's verdict. Where the limit leaves no room
    for the marker, the head alone is kept.
    """
    if len(text) <= limit:
        return Cut(text, lost=False)
    # The marker for the whole text is the longest that can be needed: its numbers only shrink.
    room = limit - len(_marker(text))
    if room < 2:  # noqa: PLR2004 - one character for each end
        return Cut(text[: max(limit, 0)], lost=True)
    head, tail = room - room // 2, room // 2
    return Cut(text[:head] + _marker(text[head : len(text) - tail]) + text[len(text) - tail :], lost=True)


def _marker(lost: str) -> str:
    lines = lost.count("\n")
    return f"\n[... {len(lost)} characters in {lines} lines left out ...]\n"
