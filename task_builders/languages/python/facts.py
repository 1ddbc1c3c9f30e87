"""Everything that can be read of a Python project at one commit, gathered once. Pure."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from packaging.utils import canonicalize_name

from task_builders.languages.project import Project, ProjectTree
from task_builders.languages.python import ci, members, metadata, paths, pytest_config, syntax, tox_nox
from task_builders.languages.python.ci import CiFacts
from task_builders.languages.python.members import Member
from task_builders.languages.python.metadata import Metadata
from task_builders.languages.python.pytest_config import PytestConfig
from task_builders.languages.python.requirement_lines import is_name
from task_builders.languages.python.tox_nox import TestEnvironment

MAX_TEST_FILES = 400
COMPILED = (".pyx", ".c", ".cpp", ".cc", ".rs")
ELSEWHERE = ("docs/", "doc/", "examples/", "tests/", "test/", "bench")


@dataclass(frozen=True)
class Facts:
    """What the files of a commit say."""

    metadata: Metadata
    ci: CiFacts
    tox: TestEnvironment
    pytest: PytestConfig
    locked: Mapping[str, str]
    test_imports: frozenset[str]
    """Top-level names that test files import."""
    own_modules: frozenset[str]
    """Top-level names in the project's tree, anywhere."""
    pinned_python: str
    compiled: bool
    """Whether the tree contains sources that must be compiled before they can be imported."""
    source_roots: tuple[str, ...] = field(default=(".",))
    members: tuple[Member, ...] = ()
    addressed: frozenset[str] = frozenset()
    """Canonical names to which requirement files give an address: they are asked of an index only where something asks by name."""

    @property
    def packages(self) -> tuple[Member, ...]:
        """What is installed in place: the members that are needed, then the package at the root."""
        there = (member for member in self.members if member.is_needed and not member.is_released)
        return (*there, Member(".", self.metadata, self.source_roots))

    @property
    def own_names(self) -> frozenset[str]:
        """Canonical names of packages in the tree, which never come from an index, whoever requires them."""
        names = (name for package in (*self.members, *self.packages) for name in (package.metadata.name, *package.metadata.own))
        released = {canonicalize_name(member.metadata.name) for member in self.members if member.is_released}
        return frozenset(str(own) for name in names if is_name(name) and (own := canonicalize_name(name)) not in released)

    @property
    def elsewhere(self) -> frozenset[str]:
        """Canonical names that the project takes from other addresses: they are not asked of an index for it."""
        return frozenset(name for package in self.packages for name in package.metadata.elsewhere if is_name(name)) - self.own_names


def read(project: Project) -> Facts:
    """Read a project."""
    tree = project.tree
    all_paths = tree.paths()
    root = metadata.read(tree)
    return Facts(
        metadata=root,
        members=members.read(tree, root),
        addressed=members.addressed(tree),
        ci=ci.read(tree),
        tox=tox_nox.read(tree),
        pytest=pytest_config.read(tree),
        locked=metadata.locked_versions(tree),
        test_imports=_test_imports(tree),
        own_modules=frozenset(_modules(all_paths)),
        pinned_python=_pinned(tree),
        compiled=any(p.endswith(COMPILED) and not p.startswith(ELSEWHERE) for p in all_paths),
        source_roots=members.source_roots(all_paths),
    )


def _modules(all_paths: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for path in all_paths:
        pure = PurePosixPath(path)
        if pure.suffix in {".py", ".pyi", ".pyx", ".c", ".so", ".rs"}:
            found.add(pure.stem)
            found.update(pure.parts[:-1])
    return found


def _test_imports(tree: ProjectTree) -> frozenset[str]:
    tests = [p for p in tree.paths() if p.endswith(".py") and paths.is_test(p)][:MAX_TEST_FILES]
    found: set[str] = set()
    for text in tree.read_all(tests).values():
        module = syntax.parse(text)
        for node in ast.walk(module) if module else ():
            if isinstance(node, ast.Import):
                found.update(a.name.split(".")[0] for a in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return frozenset(found)


def _pinned(tree: ProjectTree) -> str:
    for path in (".python-version", ".python-version-default", "runtime.txt"):
        lines = tree.read(path).split()
        if lines:
            return lines[0]
    match = re.search(r"^python\s+(\S+)", tree.read(".tool-versions"), re.MULTILINE)
    return match.group(1) if match else ""
