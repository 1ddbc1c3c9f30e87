"""Which files of a Python project are tests, which are source, which influence tests. Pure; by path segments and names, not substrings."""

from pathlib import PurePosixPath

TEST_FOLDERS = frozenset({"tests", "unittests", "testcases"})
AMBIGUOUS_TEST_FOLDERS = frozenset({"test", "testing", "unittest"})
"""At the root they contain tests. Below a package they may be shipped; then only their test modules and data are tests."""
TEST_FILES = frozenset({"conftest.py", "tests.py", "runtests.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml"})
NEITHER_FOLDERS = frozenset({
    "doc", "docs", "documentation", "examples", "example", "benchmarks", "bench", "benchmark",
    ".github", ".circleci", ".travis", ".azure-pipelines", "ci", ".ci", "requirements", "licenses",
})  # fmt: skip
CODE_ALONE_FOLDERS = frozenset({"changelog", "changelog.d", "changelogs", "changes", "newsfragments", "news", "scripts", "tools"})
"""They contain notes or what developers run; code in one may be a package of that name, and tests that a fix changes say what it is."""
NEITHER_FILES = frozenset({"setup.py", "noxfile.py", "fabfile.py", "tasks.py", "dodo.py", "conf.py"})
SOURCE_SUFFIXES = frozenset({".py", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".f90", ".f"})
PROSE_SUFFIXES = frozenset({".md", ".rst", ".txt", ".cfg", ".toml", ".ini", ".yml", ".yaml", ".lock", ".adoc"})

INFLUENCING = (
    "**/conftest.py", "pytest.ini", ".pytest.ini", "**/pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "**/tox.ini",
    ".coveragerc", "noxfile.py",
    "runtests.py", "Makefile", "**/*.pth", "**/sitecustomize.py", "**/usercustomize.py", "**/__pycache__/**", "**/*.pyc", "**/*.pyo",
    "**/*.egg-info/**", "**/*.dist-info/**", "pytest.py", "pytest/**", "_pytest/**", ".git/**", ".venv/**", "venv/**",
)  # fmt: skip
"""Not here: `pyproject.toml`, `setup.cfg` and `setup.py`, which a fix may change for good reasons (a dependency, package data). The test
command names another configuration file and repeats the project's own options, as of the fix, by `-o`, so the runner does not read what an
agent writes into them (see `pytest_command`). `__pycache__` is here because a planted .pyc runs in place of its source.
"""
INFLUENCING_OUTSIDE = (
    "**/sitecustomize.py", "**/usercustomize.py", "**/*.pth", "**/site-packages/**", "**/dist-packages/**",
    "etc/**", "opt/**", "root/**", "**/.pydistutils.cfg", "**/.config/pip/**", "**/bin/python*", "**/pyvenv.cfg", "**/lib/python*/**",
)  # fmt: skip
"""Of what a plan carries from outside the work dir: interpreters, virtual environments, and what they run automatically."""


def is_test(path: str) -> bool:
    """Whether a file belongs to the tests: by its directory (with everything in it), or by its own name."""
    parts = PurePosixPath(path).parts
    if not parts:
        return False
    folders, name = parts[:-1], parts[-1]
    if any(_is_test_folder(folder) for folder in folders) or (folders and folders[0].lower() in AMBIGUOUS_TEST_FOLDERS):
        return True
    if any(folder.lower() in AMBIGUOUS_TEST_FOLDERS for folder in folders) and PurePosixPath(name).suffix not in SOURCE_SUFFIXES:
        return True
    return name in TEST_FILES or path == "test.py" or (name.endswith(".py") and is_test_module(name))


def is_test_module(name: str) -> bool:
    """Whether test runners collect files of this name."""
    stem = name.removesuffix(".py")
    return stem.startswith("test_") or stem.endswith(("_test", "_tests", "_unittest"))


def is_source(path: str) -> bool:
    """Whether a file belongs to what is tested: code, or data beside code."""
    parts = PurePosixPath(path).parts
    if not parts or is_test(path) or (len(parts) > 1 and parts[0].lower() in NEITHER_FOLDERS):
        return False
    suffix = PurePosixPath(path).suffix.lower()
    if len(parts) == 1:
        return suffix in SOURCE_SUFFIXES and parts[0] not in NEITHER_FILES
    if parts[0].startswith("."):
        return False
    if parts[0].lower() in CODE_ALONE_FOLDERS:
        return suffix in SOURCE_SUFFIXES
    return suffix in SOURCE_SUFFIXES or suffix not in PROSE_SUFFIXES


def _is_test_folder(folder: str) -> bool:
    lower = folder.lower()
    return lower in TEST_FOLDERS or lower.startswith(("test_", "tests_")) or lower.endswith(("_tests", "-tests"))
