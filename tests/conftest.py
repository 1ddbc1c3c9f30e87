"""What tests of several rooms share: boxd, built from the checkout or shipped in the wheel, and the rules of a made-up language."""

import signal
from pathlib import Path

import pytest

from envfarm.sandboxes import boxd_binary


def pytest_configure() -> None:
    """Let the programs under test be interrupted also where the tests are run in the background, which ignores Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


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
