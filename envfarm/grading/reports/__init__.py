"""Readers of test reports: bytes, possibly written by hostile code, become statuses by stable id, or a `ReportError`.

Readers run outside the box that wrote the report, and never run, import or follow anything in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from envfarm.core.outcome import TestStatus
from envfarm.grading.reports import junit, pytest_log
from envfarm.grading.reports.statuses import ReportError

READERS: Mapping[str, Callable[[bytes], dict[str, TestStatus]]] = {"junit": junit.read, "pytest_log": pytest_log.read}
"""Readers by the report kind of a plan's command."""


def read(kind: str, data: bytes) -> dict[str, TestStatus]:
    """Statuses by stable id. Raises `ReportError` for an unknown kind and for an incomplete report."""
    reader = READERS.get(kind)
    if reader is None:
        raise ReportError(f"reports of kind {kind!r} cannot be read; known: {', '.join(sorted(READERS))}")
    return reader(data)


__all__ = ["READERS", "ReportError", "read"]
