"""Which files of a project an agent's change must not carry into grading: its tests, as the shortest exact globs. Pure."""

import re
from collections.abc import Callable, Iterable, Sequence

MAX_GLOBS = 200
NOT_UTF8 = re.compile("[\ud800-\udfff]")


def test_globs(paths: Iterable[str], is_test: Callable[[str], bool]) -> tuple[str, ...]:
    """Globs that match every test file of a tree and no other file of it.

    A directory of tests only becomes `folder/**`, which also covers files that an agent adds there. A test among source files is named by
    itself; what of its name is not UTF-8 is any character.
    """
    tests: set[str] = set()
    mixed: set[str] = set()
    for path in paths:
        if is_test(path):
            tests.add(path)
        else:
            mixed.update(_parents(path))
    globs: dict[str, None] = {}
    for path in sorted(tests):
        whole = next((parent for parent in _parents(path) if parent not in mixed), None)
        globs[NOT_UTF8.sub("?", f"{whole}/**" if whole else path)] = None
    return tuple(globs)


def influencing(language_globs: Sequence[str], paths: Iterable[str], is_test: Callable[[str], bool]) -> tuple[str, ...]:
    """The language's globs and those of the project's own tests; if the tests are widely scattered, only whole directories."""
    own = test_globs(paths, is_test)
    if len(own) > MAX_GLOBS:
        own = tuple(glob for glob in own if glob.endswith("/**"))
    return tuple(dict.fromkeys((*language_globs, *own)))


def _parents(path: str) -> list[str]:
    """Every directory above a path, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]
