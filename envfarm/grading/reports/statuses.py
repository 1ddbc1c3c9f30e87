"""What report readers share: the error type, and which of two statuses of one test counts. Pure."""

from __future__ import annotations

from envfarm.core.outcome import TestStatus

WORST_FIRST: tuple[TestStatus, ...] = ("error", "failed", "xpassed", "skipped", "xfailed", "passed")
REPORT_BYTES_MAX = 64 << 20
"""A larger report is refused. A suite of 100,000 tests stays below this size."""


class ReportError(ValueError):
    """A report that cannot be read or trusted; the message says why."""


def worst(a: TestStatus, b: TestStatus) -> TestStatus:
    """The worse of two statuses for one id, so that a second entry never turns a failure into a pass."""
    return min(a, b, key=WORST_FIRST.index)
