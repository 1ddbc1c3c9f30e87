"""A made-up project with a history, to build tasks from: one commit that becomes a task and one that does not."""

from pathlib import Path

from envfarm.testing.git_repository import Repository, python_project

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
    repository = Repository.make(directory / "kettles")
    start = {**python_project("kettles"), "kettles/__init__.py": BUGGY, "tests/test_kettles.py": TESTS}
    repository.commit("Start", start)
    fix = {"kettles/__init__.py": FIXED, "tests/test_kettles.py": MORE_TESTS}
    repository.commit("Round minutes up\n\n`minutes` rounded down, so that water for part of a litre was not yet boiling.", fix)
    tidied = {"kettles/__init__.py": SAME, "tests/test_kettles.py": MORE_TESTS + "\n# Tidied.\n"}
    repository.commit("Tidy the formula for cups a little", tidied)
    sources = directory / "sources.toml"
    sources.write_text(
        f'[[source]]\nkind = "git"\nrepository = "file://{repository.path}"\nname = "made-up/kettles"\ncommits = {{ newest = 2 }}\n'
    )
    return sources
