"""Parses requirement files and lists into plain PEP 508 requirements. Pure.

Options and indexes are never carried over: a hostile repository must not choose where packages come from. Nor is what has an address (a
path, a git repository) asked of the index by its name, where a stranger may have the name, or a release may contain the fix.
"""

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from task_builders.languages.project import ProjectTree

MAX_DEPTH = 8
NAMED_ADDRESS = re.compile(r"(?:([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*@\s*)?(.*)", re.DOTALL)
ROOT_VARIABLE = re.compile(r"^(?:\$\{?\w+\}?|\{[\w:]+\})(?:/|$)")
EGG = re.compile(r"#(?:.*&)?egg=([A-Za-z0-9._-]+)")
WHEEL = re.compile(r"([A-Za-z0-9._]+)-\d[^/]*\.whl$")
REPOSITORY_NAME = re.compile(r"/([A-Za-z0-9._-]+?)(?:\.git)?(?:@[^/]*)?$")


class Address(NamedTuple):
    """Where a requirement is taken from, if not from an index."""

    name: str
    """Canonical; empty if the text does not tell it."""
    is_local: bool
    directory: str
    """Relative to the file's; empty if it is elsewhere or outside the tree."""


@dataclass
class Requested:
    """The requirements of an install command or file."""

    requirements: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    """Extras of the project itself."""
    groups: list[str] = field(default_factory=list)
    """Dependency groups of the project."""
    files: list[str] = field(default_factory=list)
    """Requirement files that were read, for people."""

    def add(self, other: "Requested") -> None:
        """Add all requirements of another one."""
        for name in ("requirements", "constraints", "extras", "groups", "files"):
            mine: list[str] = getattr(self, name)
            mine.extend(x for x in getattr(other, name) if x not in mine)


def plain(text: str) -> str | None:
    """One requirement; None if it names nothing in an index, or has an address."""
    text = re.split(r"\s--?[a-z]", _uncommented(text), maxsplit=1)[0].strip()
    if not text or address_of(text) is not None:
        return None
    try:
        requirement = Requirement(text.rstrip(";, "))
    except InvalidRequirement:
        return None
    return str(requirement)


def address_of(text: str) -> Address | None:
    """The address that a requirement gives; None if it gives none."""
    text = re.sub(r"^(?:-e|--editable)[\s=]+", "", _uncommented(text))
    match = NAMED_ADDRESS.fullmatch(text)
    name, address = match.groups() if match else (None, text)
    if not name and "/" not in text.partition(";")[0] and not text.startswith(("file:", "$", "{")):
        return None
    path = re.split(r"[#;\s\[]", address, maxsplit=1)[0]
    told = EGG.search(address) or WHEEL.search(path) or (REPOSITORY_NAME.search(path) if path.startswith("git+") else None)
    name = str(canonicalize_name(name or (told.group(1) if told else "")))
    if not path.startswith("file:") and ("://" in path or path.startswith("git+")):
        return Address(name, is_local=False, directory="")
    path = ROOT_VARIABLE.sub("", re.sub(r"^file:(?://localhost(?=/)|//(?=[^/])|///?(?=[${]))?", "", path))
    folder = posixpath.normpath(path) if path else "."
    return Address(name, is_local=True, directory="" if folder.startswith(("/", "..")) else folder)


def plain_all(texts: Iterable[str]) -> list[str]:
    """The plain forms of those that can be parsed."""
    return [r for r in (plain(t) for t in texts) if r]


def read_file(tree: ProjectTree, path: str, *, depth: int = 0) -> Requested:
    """A requirements file with everything that it includes."""
    requested = Requested(files=[path])
    text = re.sub(r"\\\r?\n", " ", tree.read(path))
    for raw in text.splitlines():
        line = raw.strip()
        if line and not line.startswith("#"):
            requested.add(_read_line(tree, line, posixpath.dirname(path), depth))
    return requested


def is_name(text: str) -> bool:
    """Whether a text is the name of a distribution and has no other meaning in a file or shell."""
    return bool(re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,120}[A-Za-z0-9])?", text))


def name_of(requirement: str) -> str:
    """The canonical name of a plain requirement."""
    return str(canonicalize_name(re.split(r"[\s\[<>=!~;@(]", requirement.strip(), maxsplit=1)[0]))


def local_extras(text: str) -> list[str] | None:
    """The extras of `.`, `.[a,b]`, `./[a]`, `file:.[a]`; None if the text does not mean the project itself."""
    match = re.fullmatch(
        r"(?:file:(?://)?)?(?:\.|\./|\{toxinidir\}/?|\$PWD|\$\{?GITHUB_WORKSPACE\}?)(?:\[([^\]]*)\])?", text.strip().strip("'\"")
    )
    if not match:
        return None
    return [e.strip() for e in (match.group(1) or "").split(",") if e.strip()]


def _read_line(tree: ProjectTree, line: str, folder: str, depth: int) -> Requested:
    option = re.match(r"(-r|--requirements?|-c|--constraints?|-e|--editable)(?:\s+|=|(?=[^-\s]))(.+)$", line)
    if not option:
        found = plain(line)
        extras = local_extras(re.split(r"\s+[#;]", line)[0])
        return Requested(requirements=[found] if found else [], extras=extras or [])
    kind, value = option.group(1), option.group(2).split("#egg")[0].strip() if option.group(1) in {"-r", "-c"} else option.group(2).strip()
    if kind in {"-e", "--editable"}:
        extras = local_extras(value)
        found = plain(value) if extras is None else None
        return Requested(requirements=[found] if found else [], extras=extras or [])
    path = posixpath.normpath(posixpath.join(folder, re.split(r"\s+#", value)[0].strip()))
    if depth >= MAX_DEPTH or path.startswith(("..", "/")) or "://" in value:
        return Requested()
    inner = read_file(tree, path, depth=depth + 1)
    return inner if kind in {"-r", "--requirement", "--requirements"} else Requested(constraints=inner.requirements + inner.constraints)


def _uncommented(text: str) -> str:
    return re.split(r"(?:^|\s)#(?!\S*egg=)", text, maxsplit=1)[0].strip()
