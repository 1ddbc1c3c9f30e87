"""Copies an interpreter's installation to another place, small and readable by everyone. Called by the toolchain store alone.

It must leave the original untouched: files are linked only where nothing about them has to change.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = (
    r"lib/python[\d.]+/(site|dist)-packages",
    r"lib/python[\d.]+/test/(?!__init__\.py$|support(/|$)|__pycache__)[^/]+",
    r"lib/python[\d.]+/(ctypes/test|distutils/tests|idlelib/idle_test|lib2to3/tests|sqlite3/test|tkinter/test|unittest/test)",
    r"(.*/)?libpython[^/]*\.a",
    r"bin/(?!python)[^/]*",
    r"share(/.*)?",
)
"""Not needed in a box: the user's own packages above all, the interpreter's tests (but `test.support`, which projects use), manuals."""
NAMES_ITS_PREFIX = re.compile(
    r"lib/python[\d.]+/(_sysconfigdata[^/]*\.py|config-[^/]*/Makefile)|lib/pkgconfig/[^/]*\.pc|bin/python[^/]*config"
)
"""Text files in which builds of extensions look up where the interpreter is."""
SKIP = re.compile("|".join(f"(?:{pattern})" for pattern in LEFT_OUT))
SHARED = (Path("/usr/local"),)
"""Prefixes where other programs live, too."""
OWN = (
    r"(bin|lib|include|lib/pkgconfig)|(bin|include|lib/pkgconfig)/python-?{minor}.*|bin/python3?"
    r"|lib/(lib)?python{minor}.*|lib/libpython3\.so"
)
"""What there belongs to an interpreter of one version."""


def copy_prefix(source: Path, target: Path, *, minor: str, box_prefix: str) -> None:
    """Copy `source` into the empty directory `target`, to be used at `box_prefix`. Raises `OSError`."""
    stale_cache = re.compile(r"lib/python[\d.]+/__pycache__/_sysconfigdata")
    own = re.compile(OWN.format(minor=re.escape(minor)) if source in SHARED else ".*")
    for path, inside in _walk(source, source, own):
        if stale_cache.match(inside):
            continue
        to = target / inside
        if path.is_symlink():
            _copy_link(path, to, source)
        elif path.is_dir():
            to.mkdir(mode=0o755)
        elif NAMES_ITS_PREFIX.fullmatch(inside):
            to.write_bytes(path.read_bytes().replace(str(source).encode(), box_prefix.encode()))
            to.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
        elif path.is_file():
            _link_or_copy(path, to)
    (target / "lib" / f"python{minor}" / "site-packages").mkdir(parents=True, exist_ok=True)
    _free_from_prefix(target / "bin" / f"python{minor}", source)


def _free_from_prefix(program: Path, source: Path) -> None:
    """Let an interpreter that was linked to its libpython by an absolute path find the one beside it.

    The run path is a string in the program's dynamic section; the relative one is shorter, so it fits in its place.
    """
    absolute, relative = f"{source}/lib\0".encode(), b"$ORIGIN/../lib\0"
    content = program.read_bytes()
    if absolute not in content or len(relative) > len(absolute):
        return
    program.unlink()  # it may be the original's own inode
    program.write_bytes(content.replace(absolute, relative.ljust(len(absolute), b"\0")))
    program.chmod(0o755)


def _walk(folder: Path, root: Path, own: re.Pattern[str]) -> Iterator[tuple[Path, str]]:
    """Parents first; what is left out is not entered, nor are linked directories."""
    for path in sorted(folder.iterdir()):
        inside = str(path.relative_to(root))
        if SKIP.fullmatch(inside) or not own.fullmatch(inside):
            continue
        yield path, inside
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, root, own)


def _copy_link(path: Path, to: Path, source: Path) -> None:
    """A link within the installation stays one (made relative); one that leaves it becomes what it points to."""
    resolved = path.resolve()
    if resolved.is_relative_to(source.resolve()):
        to.symlink_to(os.path.relpath(resolved, path.parent.resolve()))
    elif resolved.is_file():
        _link_or_copy(resolved, to)


def _link_or_copy(path: Path, to: Path) -> None:
    mode = path.stat().st_mode
    if mode & 0o004 and (mode & 0o001 or not mode & 0o100) and not mode & 0o6000:
        try:
            to.hardlink_to(path)
        except OSError:
            pass  # another file system, or another owner's file: then a copy it is
        else:
            return
    shutil.copy2(path, to)
    to.chmod(0o755 if mode & 0o100 else 0o644)
