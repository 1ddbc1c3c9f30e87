"""Which files are tests and which are source."""

import pytest

from task_builders.languages.python import paths


@pytest.mark.parametrize(
    "path",
    [
        "tests/test_a.py",
        "tests/data/broken.json",
        "testing/benchmark.py",
        "test/support.py",
        "src/pkg/tests/cases.py",
        "pkg/test_core.py",
        "pkg/core_test.py",
        "conftest.py",
        "pkg/conftest.py",
        "pytest.ini",
        "app/tests.py",
        "pkg/test/data/a.bin",
    ],
)
def test_tests(path: str) -> None:
    assert paths.is_test(path)
    assert not paths.is_source(path)


@pytest.mark.parametrize(
    "path",
    [
        "pkg/latest.py",
        "pkg/contest.py",
        "attestation/a.py",
        "src/pkg/testing.py",
        "src/pkg/test/client.py",
        "src/pkg/protest/x.py",
        "pkg/_c.c",
        "news/models.py",
        "tools/fetch.py",
        "scripts/convert/core.py",
    ],
)
def test_source(path: str) -> None:
    assert not paths.is_test(path)
    assert paths.is_source(path)


@pytest.mark.parametrize(
    "path",
    [
        "docs/conf.py",
        "CHANGES.rst",
        "README.md",
        "setup.py",
        ".github/workflows/ci.yml",
        "tox.ini",
        "noxfile.py",
        "pkg/notes.md",
        "news/12.feature",
        "tools/release.sh",
    ],
)
def test_neither(path: str) -> None:
    assert not paths.is_test(path)
    assert not paths.is_source(path)
