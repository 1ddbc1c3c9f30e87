"""Unit tests do no I/O outside a temporary directory, and are quick."""

from pathlib import Path

import pytest

TIMEOUT_S = 10
"""Five times what any of them takes, so that none fails on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
