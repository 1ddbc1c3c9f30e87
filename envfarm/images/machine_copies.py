"""Copies of a project on the machine itself, which boxes over its /usr would show: a newer one among them tells the fix.

Distributions and programs carry Python packages along, their own or others'. Used by the builder of local layers; only Python sources are
looked for, since only Python is built as local layers.
"""

import io
import os
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

SUFFIX = ".py"
MARK = "__init__.py"
SOURCE_FOLDERS = frozenset({".", "src", "lib"})
"""Where modules that are in no package lie."""
PACKAGE_FOLDERS = frozenset({"site-packages", "dist-packages"})
STANDARD_LIBRARY = frozenset({"os.py", "site.py", "types.py"})
"""Files by which an interpreter's own library is told: without it the interpreter does not run, and a backport is not its copy."""
MIN_LINES = 5
"""Shorter modules are alike by chance."""
ALIKE = 0.5
"""Share of a module's different lines that a file of its name has in common with it where it is a copy."""


class MachineCopies:
    """Finds them below one directory, which is read once."""

    def __init__(self, root: Path = Path("/usr")) -> None:
        self._root = root

    def of(self, checkout: bytes, work_dir: str) -> tuple[str, ...]:
        """Directories and files of the machine that hold a copy of something below `work_dir` of a tar archive rooted at `/`."""
        sources = _sources(checkout, work_dir)
        found = {str(folder) for package in _packages(sources) for folder in self._copies(package, sources)}
        for path, text in sources.items():
            if str(path.parent) in SOURCE_FOLDERS and path.name != MARK:
                found |= {str(file) for file in self._files[path.name] if _alike(text, file)}
        return tuple(sorted(path for path in found if not any(str(above) in found for above in Path(path).parents)))

    def _copies(self, package: PurePosixPath, sources: Mapping[PurePosixPath, bytes]) -> Iterable[Path]:
        modules = {path.relative_to(package): text for path, text in sources.items() if path.is_relative_to(package)}
        return (folder for folder in self._folders[package.name] if any(_alike(text, folder / module) for module, text in modules.items()))

    @cached_property
    def _folders(self) -> Mapping[str, list[Path]]:
        """Folders with sources, by name."""
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for folder in {file.parent for files in self._files.values() for file in files}:
            found[folder.name].append(folder)
        return found

    @cached_property
    def _files(self) -> Mapping[str, list[Path]]:
        """Sources, by name."""
        found: defaultdict[str, list[Path]] = defaultdict(list)
        for folder, below, files in os.walk(self._root):
            if STANDARD_LIBRARY.issubset(files):
                below[:] = [name for name in below if name in PACKAGE_FOLDERS]
                continue
            for name in files:
                if name.endswith(SUFFIX):
                    found[name].append(Path(folder, name))
        return found


def _sources(checkout: bytes, work_dir: str) -> dict[PurePosixPath, bytes]:
    """Python files by their path in the work dir."""
    prefix = work_dir.strip("/") + "/"
    found: dict[PurePosixPath, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(checkout)) as tar:
        for entry in tar:
            name = entry.name.lstrip("./")
            if entry.isreg() and name.startswith(prefix) and name.endswith(SUFFIX) and (file := tar.extractfile(entry)):
                found[PurePosixPath(name.removeprefix(prefix))] = file.read()
    return found


def _packages(sources: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """The topmost packages."""
    packages = {path.parent for path in sources if path.name == MARK} - {PurePosixPath(".")}
    return {p for p in packages if p.parent not in packages}


def _alike(text: bytes, file: Path) -> bool:
    lines = {line.strip() for line in text.splitlines()} - {b""}
    if len(lines) < MIN_LINES or not file.is_file():
        return False
    try:
        other = {line.strip() for line in file.read_bytes().splitlines()}
    except OSError:
        return False
    return len(lines & other) >= ALIKE * len(lines)
