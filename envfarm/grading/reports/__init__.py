"""Readers of test reports: bytes that hostile code may have written become statuses by stable id, or a `ReportError`.

Called by the procedure, outside the box that wrote the report. A reader never runs, imports or follows anything in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from envfarm.core.outcome import TestStatus
from envfarm.grading.reports import junit, pytest_log
from envfarm.grading.reports.statuses import ReportError

READERS: Mapping[str, Callable[[bytes], dict[str, TestStatus]]] = {"junit": junit.read, "pytest_log": pytest_log.read}
"""By the kind that a plan's command names."""


def read(kind: str, data: bytes) -> dict[str, TestStatus]:
    """Statuses by stable id. Raises `ReportError` for an unknown kind and for a report that is not whole."""
    reader = READERS.get(kind)
    if reader is None:
        raise ReportError(f"reports of kind {kind!r} cannot be read; known: {', '.join(sorted(READERS))}")
    return reader(data)


__all__ = ["READERS", "ReportError", "read"]
