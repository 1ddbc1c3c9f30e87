"""A task's solution, written otherwise: made by a language, graded by the gates "equivalents" and "mutation score"."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """The fix, changed in one place."""

    kind: str
    """What was done, in terms that are the same for every task: `hunk dropped`, `condition inverted`, …"""
    path: str
    line: int
    """From 1, in the file after the fix."""
    files: dict[str, bytes]
    """The whole fix: every touched file with its new content."""
