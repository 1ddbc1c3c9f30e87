"""What tests of boxes share: boxd, built from the checkout or shipped in the wheel."""

from pathlib import Path

import pytest

from envfarm.sandboxes import boxd_binary


@pytest.fixture(scope="session")
def boxd() -> Path:
    return boxd_binary.find()
