"""Temporary directories of what works on files before there is a box: checkouts, proofs, locks of dependencies."""

import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from envfarm import locked_directories

PREFIX = "envfarm-scratch-"


def scratch_directory() -> AbstractContextManager[Path]:
    """A fresh directory where the system keeps temporary files, removed at the end of the block."""
    return locked_directories.locked_directory(lambda: Path(tempfile.mkdtemp(prefix=PREFIX)))


def collect() -> int:
    """Remove this user's directories whose makers were killed; how many."""
    return locked_directories.collect(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
