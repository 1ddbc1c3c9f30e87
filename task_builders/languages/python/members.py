"""The packages in a project's tree beside the one at its root. Pure.

They are the members of its workspace, the dependencies that its metadata and requirement files take from its own tree, and, where the root
is no package and names no requirements, every package of the tree. None of them may come from an index: its copy there might contain the
fix, or be a stranger's.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from packaging.utils import canonicalize_name

from envfarm.grading.globs import matcher
from task_builders.languages.project import ProjectTree
from task_builders.languages.python import metadata
from task_builders.languages.python.metadata import Metadata
from task_builders.languages.python.requirement_lines import Address, address_of

MAX_MEMBERS = 40
ROOT_FILES = ("pyproject.toml", "setup.py")
FOLDER = re.compile(r"[\w.][\w./-]*")
ELSEWHERE = re.compile(r"(?:^|/)(?:tests?|docs?|examples?|samples?|templates?|vendor|third_party|bench\w*)(?:/|$)")
REQUIREMENTS = re.compile(r"(?:requirements/[\w.-]+|[\w.-]*requirements?[\w.-]*)\.(?:txt|in|pip)")
OF_CRATES = re.compile(r"maturin|setuptools[-_]rust", re.IGNORECASE)
"""Back ends whose packages are built of crates, which a step without a network cannot fetch."""
SOURCE_ROOTS = ("src", "lib", "python", "source")


@dataclass(frozen=True)
class Member:
    """A package, and its directory in the tree (`.` for the root)."""

    directory: str
    metadata: Metadata
    source_roots: tuple[str, ...]
    """Relative to the directory."""
    is_needed: bool = True
    """False for a workspace's examples and the like that no other package names. They are the project's own, and are not installed."""

    @property
    def is_released(self) -> bool:
        """Whether its release as of the commit's date is asked of an index, since it cannot be built in place."""
        return any(OF_CRATES.search(part) for part in (self.metadata.build_backend, *self.metadata.build_requires))


@dataclass(frozen=True)
class Below:
    """A directory of a tree, as a tree."""

    tree: ProjectTree = field(repr=False)
    directory: str

    def paths(self) -> Sequence[str]:
        """See `ProjectTree.paths`."""
        return [path.removeprefix(self.directory + "/") for path in self.tree.paths() if path.startswith(self.directory + "/")]

    def read(self, path: str) -> str:
        """See `ProjectTree.read`."""
        return self.tree.read(f"{self.directory}/{path}")

    def read_all(self, paths: Sequence[str]) -> Mapping[str, str]:
        """See `ProjectTree.read_all`."""
        found = self.tree.read_all([f"{self.directory}/{path}" for path in paths])
        return {path.removeprefix(self.directory + "/"): text for path, text in found.items()}


def read(tree: ProjectTree, root: Metadata) -> tuple[Member, ...]:
    """The packages beside the root, each name once."""
    folders = {posixpath.dirname(path) for path in tree.paths() if posixpath.basename(path) in ROOT_FILES}
    folders = {folder for folder in folders if FOLDER.fullmatch(folder)}
    files = _requirement_files(tree)
    asked = {
        *_taken_from(root, "."),
        *(folder for path, text in files.items() for folder in _inside(posixpath.dirname(path), [a.directory for a in _addresses(text)])),
    }
    queue = sorted({*_of_workspace(tree, folders), *asked})
    if not queue and not root.installable and not root.requires and not files:
        queue = sorted(folder for folder in folders if not ELSEWHERE.search(folder))
    names, required = {canonicalize_name(root.name)}, set(root.own)
    found: list[Member] = []
    for folder in queue:
        own = metadata.read(Below(tree, folder)) if folder in folders and len(found) < MAX_MEMBERS else Metadata(installable=False)
        name = canonicalize_name(own.name)
        if not own.installable or (name and name in names):
            continue
        names.add(name)
        found.append(Member(folder, own, source_roots(Below(tree, folder).paths())))
        required.update(own.own)
        asked.update(further := {*_taken_from(own, folder)})
        queue += sorted(further.difference(queue))

    def is_needed(one: Member) -> bool:
        return one.directory in asked or canonicalize_name(one.metadata.name) in required or not ELSEWHERE.search(one.directory)

    return tuple(replace(one, is_needed=is_needed(one)) for one in found)


def addressed(tree: ProjectTree) -> frozenset[str]:
    """The canonical names to which requirement files give an address."""
    return frozenset(address.name for text in _requirement_files(tree).values() for address in _addresses(text) if address.name)


def source_roots(paths: Sequence[str]) -> tuple[str, ...]:
    """The directories that modules are imported from."""
    return tuple(r for r in SOURCE_ROOTS if any(re.match(rf"{r}/[^/]+/__init__\.py$|{r}/[^/]+\.py$", p) for p in paths)) or (".",)


def _of_workspace(tree: ProjectTree, folders: set[str]) -> list[str]:
    """The members that any tool's `workspace` table names."""
    found: set[str] = set()
    tools = metadata.toml(tree).get("tool")
    for tool in tools.values() if isinstance(tools, dict) else ():
        workspace = tool.get("workspace") if isinstance(tool, dict) else None
        if isinstance(workspace, dict):
            found |= {f for f in folders if _names(workspace.get("members"), f) and not _names(workspace.get("exclude"), f)}
    return sorted(found)


def _names(patterns: object, folder: str) -> bool:
    clean = [posixpath.normpath(p) for p in patterns if isinstance(p, str)] if isinstance(patterns, list) else []
    return any(matcher([p])(folder) for p in clean if "**" in p or p.count("/") == folder.count("/"))


def _taken_from(package: Metadata, directory: str) -> Iterator[str]:
    """The directories that a package takes dependencies from."""
    yield from _inside(directory, package.own.values())


def _requirement_files(tree: ProjectTree) -> Mapping[str, str]:
    return tree.read_all([path for path in tree.paths() if REQUIREMENTS.fullmatch(path)])


def _addresses(text: str) -> list[Address]:
    """What lines of a requirement file take from elsewhere than an index."""
    found = (address_of(line) for line in text.splitlines() if not re.match(r"\s*-(?!e\b|-editable\b)", line))
    return [address for address in found if address is not None]


def _inside(directory: str, places: Iterable[str]) -> Iterator[str]:
    for place in places:
        folder = posixpath.normpath(posixpath.join(directory, place)) if place else "."
        if folder != "." and not folder.startswith(("..", "/")):
            yield folder
