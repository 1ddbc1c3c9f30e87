"""boxd built from the checkout, and what sandbox tests share."""

from pathlib import Path

import pytest

from envfarm.sandboxes import boxd_binary


@pytest.fixture(scope="session")
def boxd() -> Path:
    return boxd_binary.find()
