"""What tests of several rooms share: boxd, built from the checkout or shipped in the wheel, and the rules of a made-up language."""

from pathlib import Path

import pytest

from envfarm.sandboxes import boxd_binary


@pytest.fixture(scope="session")
def boxd() -> Path:
    return boxd_binary.find()


class MadeUpRules:
    """A small language: `.py` below `tests/` is tests, other `.py` is source."""

    name = "madeup"

    def is_test(self, path: str) -> bool:
        return path.startswith("tests/")

    def is_source(self, path: str) -> bool:
        return path.endswith(".py") and not self.is_test(path)


@pytest.fixture
def rules() -> MadeUpRules:
    return MadeUpRules()
