"""What report readers share: the error, and which of two statuses of one test counts. Pure."""

from __future__ import annotations

from envfarm.core.outcome import TestStatus

WORST_FIRST: tuple[TestStatus, ...] = ("error", "failed", "xpassed", "skipped", "xfailed", "passed")
REPORT_BYTES_MAX = 64 << 20
"""A report beyond this is refused: a suite of 100,000 tests stays below it."""


class ReportError(ValueError):
    """A report that cannot be believed or read: what is wrong with it."""


def worst(a: TestStatus, b: TestStatus) -> TestStatus:
    """Of two statuses for one id the one that speaks against it, so that a second entry never turns a failure into a pass."""
    return min(a, b, key=WORST_FIRST.index)
