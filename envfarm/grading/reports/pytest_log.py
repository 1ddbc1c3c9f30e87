"""Statuses from pytest's printed summary (`-rA`). For imported tasks that have nothing better, and to show in tests why that is not enough.

Whatever the code under test prints can look like this: a plan that uses it relies on its canaries alone.
"""

from __future__ import annotations

import re

from envfarm.core.outcome import TestStatus
from envfarm.grading.reports.statuses import REPORT_BYTES_MAX, ReportError, worst

LINE = re.compile(r"^(?:(PASSED) (\S.*)|(FAILED|ERROR|SKIPPED|XFAIL|XPASS) (\S.*?)(?: - .*)?)$")
"""What passed has no reason after a dash; there the dash is a part of the id."""
LINES_MAX = 2_000_000
LINE_ENDS = tuple(end.encode() for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
"""Where Python ends lines."""
STATUSES: dict[str, TestStatus] = {
    "PASSED": "passed",
    "FAILED": "failed",
    "ERROR": "error",
    "SKIPPED": "skipped",
    "XFAIL": "xfailed",
    "XPASS": "xpassed",
}


def read(data: bytes) -> dict[str, TestStatus]:
    """Statuses by the ids that were printed; the worst of several counts. Raises `ReportError` for a log that is too large."""
    if len(data) > REPORT_BYTES_MAX:
        raise ReportError(f"the log has {len(data)} bytes, more than the {REPORT_BYTES_MAX} that are read")
    if sum(map(data.count, LINE_ENDS)) > LINES_MAX:
        raise ReportError(f"the log has more than {LINES_MAX} lines")
    statuses: dict[str, TestStatus] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        found = LINE.match(line)
        if found:
            word, test = (group for group in found.groups() if group is not None)
            statuses[test] = worst(statuses.get(test, "passed"), STATUSES[word])
    return statuses
