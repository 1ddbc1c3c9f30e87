"""A made-up project with a history, to build tasks from: one commit that becomes a task and one that does not."""

import subprocess
from pathlib import Path

LICENCE = """MIT License

Copyright (c) 2024 The Kettles Authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
PROJECT = """[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "kettles"
version = "1.0"
requires-python = ">=3.9"

[tool.setuptools]
packages = ["kettles"]
"""
BUGGY = '''"""Kettles."""


def minutes(litres):
    """How long a kettle takes, in whole minutes, rounded up."""
    return litres * 2 // 1


def cups(litres, size=4):
    """How many cups a kettle fills."""
    if litres < 0:
        return 0
    return litres * size
'''
FIXED = BUGGY.replace("litres * 2 // 1", "-(-litres * 2 // 1)")
SAME = FIXED.replace("litres * size", "size * litres")
TESTS = """from kettles import cups, minutes


def test_whole_litres():
    assert minutes(2) == 4


def test_cups():
    assert cups(2) == 8
    assert cups(-1) == 0
"""
MORE_TESTS = TESTS + "\n\ndef test_part_of_a_litre():\n    assert minutes(1.2) == 3\n    assert minutes(0.1) == 1\n"


def make(directory: Path) -> Path:
    """The repository, and beside it the sources file that names it by an address, so that builds fetch it; that file."""
    repository = directory / "kettles"
    repository.mkdir()
    _git(repository, "init", "-q", "-b", "main")
    start = {"LICENSE": LICENCE, "pyproject.toml": PROJECT, "kettles/__init__.py": BUGGY, "tests/test_kettles.py": TESTS}
    _commit(repository, start, "Start")
    fix = {"kettles/__init__.py": FIXED, "tests/test_kettles.py": MORE_TESTS}
    _commit(repository, fix, "Round minutes up\n\n`minutes` rounded down, so that water for part of a litre was not yet boiling.")
    tidied = {"kettles/__init__.py": SAME, "tests/test_kettles.py": MORE_TESTS + "\n# Tidied.\n"}
    _commit(repository, tidied, "Tidy the formula for cups a little")
    sources = directory / "sources.toml"
    sources.write_text(
        f'[[source]]\nkind = "git"\nrepository = "file://{repository}"\nname = "made-up/kettles"\ncommits = {{ newest = 2 }}\n'
    )
    return sources


def _commit(repository: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(text)
    _git(repository, "add", "-A")
    _git(repository, "commit", "-q", "-m", message)


def _git(repository: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *identity, "-C", str(repository), *arguments], check=True, capture_output=True)
