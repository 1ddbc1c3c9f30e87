"""What a Debian machine has installed, as dpkg's own files tell: packages, what they need, which files are whose. Called by `base_system`.

It only reads, and runs nothing: the status file's form is documented, apt reads it too, and file lists have been one path a line ever
since. It must not decide what of it a box needs.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

ADMIN = "var/lib/dpkg"
INSTALLED = frozenset({"installed", "triggers-awaited", "triggers-pending"})
"""States in which a package's files are there and were configured."""


UNSETTLED = frozenset({"half-installed", "unpacked", "half-configured"})
"""States in which a package is for moments, while it is brought or brought up to date."""


class Package(NamedTuple):
    """An installed package of the machine's own architecture, or of all."""

    name: str
    architecture: str
    version: str
    basic: bool
    """Whether it is essential or of priority `required`: the smallest system holds those."""
    needs: tuple[tuple[str, ...], ...]
    """Names of which it needs one each: `(("libc6",), ("mawk", "awk"))`."""
    provides: frozenset[str]
    stanza: str
    """What the status file says of it."""


class Dpkg:
    """dpkg's database of the system below `root`, as it was when it was first asked."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._admin = root / ADMIN
        status = (self._admin / "status").read_text(encoding="utf-8", errors="surrogateescape")
        self.packages = in_state(INSTALLED, status)
        """By name. Raises `OSError` where there is no dpkg."""
        self.unsettled = in_state(UNSETTLED, status)
        """Those that somebody installs or upgrades at this moment, by name."""
        self._moved = diversions(_text(self._admin / "diversions"))

    def files(self, package: str) -> Iterator[tuple[str, str]]:
        """Where each file, link and directory of a package belongs, and where it is: paths without the first `/`.

        They differ where another package's diversion moved the file away. A path through links is given as the directory that it leads
        to, so that `bin/ls` is `usr/bin/ls` where /usr is merged.
        """
        for path in self._listed(package):
            other, by = self._moved.get(path, (path, package))
            is_at = path if by == package else other
            yield self._straight(path), is_at.lstrip("/")

    def owners(self, paths: Iterable[Path]) -> dict[Path, str]:
        """The packages that own files of the machine; those that nobody owns are left out."""
        asked = {self._straight(str(path)): path for path in paths}
        names = {path.rpartition("/")[2] for path in asked}
        found: dict[Path, str] = {}
        for package in self.packages:
            for path in self._listed(package):
                if path.rpartition("/")[2] in names and (wanted := asked.get(self._straight(path))):
                    found[wanted] = package
        return found

    def postinst(self, package: str) -> str:
        """The script that sets a package up; empty where there is none."""
        return _text(self._info(package, "postinst"))

    def _listed(self, package: str) -> list[str]:
        return [line for line in _text(self._info(package, "list")).splitlines() if line not in ("", "/.")]

    def _info(self, package: str, kind: str) -> Path:
        plain = self._admin / "info" / f"{package}.{kind}"
        return plain if plain.exists() else plain.with_name(f"{package}:{self.packages[package].architecture}.{kind}")

    def _straight(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        return f"{_real(self._root, folder)}/{name}".lstrip("/")


def in_state(states: Collection[str], status: str) -> dict[str, Package]:
    """The packages of a status file that are in one of these states, by name; those of foreign architectures are left out."""
    found = [package for stanza in status.split("\n\n") if (package := _package(stanza, states))]
    own = next((package.architecture for package in found if package.name == "dpkg"), "")
    return {package.name: package for package in found if package.architecture in (own, "all")}


def closure(packages: Mapping[str, Package], roots: Iterable[str]) -> list[Package]:
    """The roots that are installed and what they need, by name.

    Of what one name or another would do for, one that is taken already is enough; else it is the first that is installed.
    """
    providers = {name: [name] for name in packages}
    for name in sorted(packages, key=lambda name: (not packages[name].basic, name)):
        for offered in packages[name].provides - {name}:
            providers.setdefault(offered, []).append(name)
    taken = dict.fromkeys(name for name in roots if name in packages)
    waiting = list(taken)
    while waiting:
        for alternatives in packages[waiting.pop(0)].needs:
            able = [able for name in alternatives for able in providers.get(name, [])]
            if able and not any(p in taken for p in able):
                taken[able[0]] = None
                waiting.append(able[0])
    return [packages[name] for name in sorted(taken)]


def diversions(text: str) -> dict[str, tuple[str, str]]:
    """Path → where others' file of that path is, and the package that may have its own there; `:` for none."""
    lines = text.splitlines()
    return {path: (moved, by) for path, moved, by in zip(lines[::3], lines[1::3], lines[2::3], strict=False)}


def _package(stanza: str, states: Collection[str]) -> Package | None:
    fields = {name.lower(): value for name, value in re.findall(r"^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)", stanza, re.MULTILINE)}
    if "package" not in fields or fields.get("status", "").split()[-1:] == [] or fields["status"].split()[-1] not in states:
        return None
    basic = fields.get("essential") == "yes" or fields.get("priority") == "required"
    needs = [_names(part.split("|")) for field in ("pre-depends", "depends") if field in fields for part in fields[field].split(",")]
    provides = frozenset(_names(fields.get("provides", "").split(",")))
    version, architecture = fields.get("version", ""), fields.get("architecture", "")
    return Package(fields["package"], architecture, version, basic, tuple(filter(None, needs)), provides, stanza.strip("\n") + "\n")


def _names(parts: Collection[str]) -> tuple[str, ...]:
    """Package names without versions (`(>= 2)`) and architectures (`:any`)."""
    return tuple(name for part in parts if (name := re.split(r"[\s(:\[]", part.strip(), maxsplit=1)[0]))


@cache
def _real(root: Path, folder: str) -> str:
    """The directory that a path of the system leads to, from `root`."""
    return "/" + os.path.relpath(os.path.realpath(f"{root}/{folder.strip('/')}"), os.path.realpath(root)).removeprefix(".")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return ""
