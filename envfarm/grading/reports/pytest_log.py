"""Statuses from pytest's printed summary (`-rA`), for imported tasks that have no better report.

The code under test can print such lines, too: a plan that uses this reader relies on its canaries alone.
"""

from __future__ import annotations

import re

from envfarm.core.outcome import TestStatus
from envfarm.grading.reports.statuses import REPORT_BYTES_MAX, ReportError, worst

LINE = re.compile(r"^(?:(PASSED) (\S.*)|(FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S.*?)(?: - .*)?)$")
"""Passed tests have no reason after a dash; there a dash is part of the id."""
STATUSES: dict[str, TestStatus] = {
    "PASSED": "passed",
    "FAILED": "failed",
    "ERROR": "error",
    "SKIPPED": "skipped",
    "XFAIL": "xfailed",
    "XPASS": "xpassed",
}


def read(data: bytes) -> dict[str, TestStatus]:
    """Statuses by the printed ids; the worst of several counts. Raises `ReportError` for a log that is too large."""
    if len(data) > REPORT_BYTES_MAX:
        raise ReportError(f"the log has {len(data)} bytes, more than the {REPORT_BYTES_MAX} allowed")
    statuses: dict[str, TestStatus] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        found = LINE.match(line)
        if found:
            word, test = (group for group in found.groups() if group is not None)
            statuses[test] = worst(statuses.get(test, "passed"), STATUSES[word])
    return statuses
