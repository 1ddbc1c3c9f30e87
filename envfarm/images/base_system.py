"""The base system of local boxes: of this machine's packages those that a toolchain's official image holds. Called by `local_system`.

A box over a machine's whole /usr sees whatever happens to be installed there. Over the base it sees what a container of its recipe does.
It only reads the machine, and runs nothing but interpreters that were run before.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from envfarm.core import digest
from envfarm.core.errors import BuildOutage
from envfarm.core.ids import Digest
from envfarm.images import alternatives, shared_libraries
from envfarm.images.dockerfile import ALWAYS
from envfarm.images.dpkg import Dpkg, Package, closure
from envfarm.images.system_packages import MERGED, is_unwanted
from envfarm.images.tarball import Entry

USR = Path("/usr")
FORMAT = 1
"""Of the layer's files."""
ROOTS = (*ALWAYS, "apt", "netbase", "tzdata")
"""Beside the packages that every Debian has: what recipes are promised, and what the official images bring."""
ETC = (
    *shared_libraries.CONFIGURATION,
    "etc/services",
    "etc/protocols",
    "etc/mime.types",
    "etc/ssl/openssl.cnf",
    "etc/bash.bashrc",
    "etc/debian_version",
)  # fmt: skip
"""The rest of /etc is the machine's own business, or is made up for boxes."""
NOT_IN_IMAGES = "tkinter"
"""An extension module whose libraries the official images leave out."""


class BaseSystem(NamedTuple):
    """What a base holds."""

    packages: tuple[Package, ...]
    libraries: tuple[Path, ...]
    """Libraries of the interpreter below /usr that no package owns."""

    @property
    def digest(self) -> Digest:
        """The identity of its files."""
        known = [[p.name, p.version, p.architecture] for p in self.packages]
        return digest.of_json({"base": FORMAT, "packages": known, "libraries": [_mark(path) for path in self.libraries]})

    @property
    def ground(self) -> Digest:
        """What layers over it depend on: which packages there are. A newer version within one release of a distribution is no other."""
        return digest.of_json(
            {"ground": FORMAT, "packages": [p.name for p in self.packages], "libraries": [str(p) for p in self.libraries]}
        )

    @property
    def names(self) -> frozenset[str]:
        """Of the packages."""
        return frozenset(p.name for p in self.packages)

    @property
    def status(self) -> str:
        """A dpkg status file that knows of these packages alone."""
        return "\n".join(p.stanza for p in self.packages)


def base_for(dpkg: Dpkg, prefix: Path, minor: str) -> BaseSystem:
    """The base of recipes with the interpreter that is installed at `prefix`: the packages of its libraries are in it, as in its image.

    Raises `BuildOutage` while one of the packages is being installed or upgraded.
    """
    program, modules = prefix / "bin" / f"python{minor}", _modules(prefix, minor)
    loaded = shared_libraries.loaded_by(program, modules, within=prefix)
    libraries = {path.parent.resolve() / path.name for path in loaded}
    owners = dpkg.owners({*libraries, *modules, program, prefix / "bin/python3", prefix / "lib" / f"python{minor}" / "os.py"})
    basic = (p.name for p in dpkg.packages.values() if p.basic)
    kept = closure(dpkg.packages, sorted({*basic, *ROOTS, *owners.values()}))
    if names := under_way(dpkg, kept):
        raise BuildOutage(f"{', '.join(names)}: being installed or upgraded", hint="try again when apt or dpkg is done")
    unowned = {path for path in libraries - owners.keys() if _is_seen_from(prefix, path)}
    return BaseSystem(tuple(kept), tuple(sorted(unowned)))


def under_way(dpkg: Dpkg, kept: Iterable[Package]) -> list[str]:
    """Packages that a base of these would hold if somebody were not just installing or upgrading them."""
    needed = {name for package in kept for names in package.needs for name in names}
    return [p.name for p in dpkg.unsettled.values() if p.basic or p.name in ROOTS or p.name in needed]


def entries(dpkg: Dpkg, base: BaseSystem, root: Path = Path("/")) -> Iterator[tuple[Entry, int]]:
    """The base's files and their mtimes; what is not readable for everyone on the machine is left out. Raises `OSError`."""
    seen: set[str] = set()
    for name in MERGED:
        if (root / name).is_symlink():
            yield _entry(name, root / name)
    for package in base.packages:
        for where, source in dpkg.files(package.name):
            if where in seen or not _is_wanted(where):
                continue
            seen.add(where)
            for place, path in ((where, root / source), *_byte_code(where, root)):
                if _is_readable(path):
                    yield _entry(place, path)
    for library in base.libraries:
        resolved = library.resolve()
        yield Entry(str(library).lstrip("/"), content=resolved.read_bytes()), int(resolved.stat().st_mtime)


def offered(dpkg: Dpkg, base: BaseSystem) -> list[alternatives.Alternative]:
    """The alternatives that the base's packages offer."""
    return [found for package in base.packages for found in alternatives.offered(dpkg.postinst(package.name))]


def _modules(prefix: Path, minor: str) -> list[Path]:
    """Of an interpreter's files those that load libraries, beside the program."""
    found = (prefix / "lib" / f"python{minor}").rglob("*.so")
    return sorted(path for path in found if NOT_IN_IMAGES not in path.name)


def _is_seen_from(prefix: Path, path: Path) -> bool:
    """Whether a library comes from below /usr, and not with the interpreter."""
    return path.is_relative_to(USR) and (prefix == USR or not path.is_relative_to(prefix))


def _is_wanted(where: str) -> bool:
    top, _, rest = where.partition("/")
    if top == "etc":
        return any(where == name or where.startswith(name + "/") for name in ETC)
    return bool(rest) and (top == "usr" or top in MERGED) and not is_unwanted(where)


def _byte_code(where: str, root: Path) -> Iterable[tuple[str, Path]]:
    """What Python compiled of a module of a package: no package owns it, and without it every start compiles anew."""
    if not where.endswith(".py"):
        return ()
    path = root / where
    found = (path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc")
    return [(f"{where.rpartition('/')[0]}/__pycache__/{code.name}", code) for code in found]


def _is_readable(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:  # left out when the package was installed, or taken away since
        return False
    return path.is_symlink() or path.is_dir() or (path.is_file() and bool(about.st_mode & 0o004))


def _entry(where: str, path: Path) -> tuple[Entry, int]:
    about = path.lstat()
    if path.is_symlink():
        return Entry(where, link=os.readlink(path)), int(about.st_mtime)  # noqa: PTH115 - the text itself is wanted
    if path.is_dir():
        return Entry(where, 0o755), int(about.st_mtime)
    return Entry(where, about.st_mode & 0o777, content=path.read_bytes()), int(about.st_mtime)


def _mark(path: Path) -> list[object]:
    about = path.stat()
    return [str(path), about.st_size, about.st_mtime_ns]
