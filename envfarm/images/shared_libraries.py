"""Shared libraries: which ones a machine's programs load, and the loader's cache for trees of them. Called by `base_system` and its kin.

It asks the loader about trusted programs of the machine alone, never about what boxes or packages left.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

CACHE = "etc/ld.so.cache"
CONFIGURATION = ("etc/ld.so.conf", "etc/ld.so.conf.d")
FOLDERS = ("lib", "usr/lib")
"""Searched beside those that the configuration names."""
TIMEOUT_S = 60.0
PATH = f"{os.defpath}:/usr/sbin:/sbin"


def loaded_by(program: Path, modules: Iterable[Path], *, within: Path) -> set[Path]:
    """The libraries that a program of this machine and modules below `within` load, by the paths at which the loader finds them.

    The loader is asked once for all of them, as `ldd` asks it for one; a program without a loader of its own is run, with nothing to read.
    """
    preload = ":".join(str(path.relative_to(within)) for path in modules)  # relative: the list has no way to write a colon or a blank
    done = subprocess.run(
        [str(program)],
        env={"LD_TRACE_LOADED_OBJECTS": "1", "LD_PRELOAD": preload},
        cwd=within,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return found_in(done.stdout.decode(errors="surrogateescape"))


def found_in(listing: str) -> set[Path]:
    """The paths in what the loader says; libraries that it does not find are left out."""
    return {Path(a or b) for a, b in re.findall(r"^\s+(?:\S+ => (/.+)|(/.+)) \(0x[0-9a-f]+\)$", listing, re.MULTILINE)}


def write_cache(trees: Sequence[Path]) -> int:
    """Write the loader's cache of trees that lie over one another, lowest first, into the last one: what `ldconfig -p` tells is then true.

    Its size in bytes.

    Where ldconfig is missing or fails there is none: the loader finds libraries without it, in its own folders. Raises `OSError`.
    """
    program = shutil.which("ldconfig", path=PATH)
    if program is None:
        return 0
    target = trees[-1] / CACHE
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".libraries-", dir=trees[-1].parent) as folder:
        root = trees[0] if len(trees) == 1 else _laid_over(trees, Path(folder))
        with suppress(subprocess.TimeoutExpired):
            subprocess.run([program, "-r", str(root), "-X"], capture_output=True, timeout=TIMEOUT_S, check=False)
        if root != trees[-1] and (root / CACHE).is_file():
            shutil.copyfile(root / CACHE, target)
    if not target.is_file():
        return 0
    target.chmod(0o644)
    return target.stat().st_size


def _laid_over(trees: Sequence[Path], root: Path) -> Path:
    """`root` with what ldconfig reads of the trees."""
    merged: dict[str, str] = {}
    for tree in trees:
        merged |= {path.name: str(path.readlink()) for path in tree.iterdir() if path.is_symlink()}
        for name in CONFIGURATION:
            if (tree / name).is_dir():
                shutil.copytree(tree / name, root / name, dirs_exist_ok=True)
            elif (tree / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(tree / name, root / name)
    for name, leads_to in merged.items():
        (root / name).symlink_to(leads_to)
    for folder in sorted({_unmerged(folder, merged) for folder in (*_named(root), *FOLDERS)}):
        for path in (path for tree in trees for path in _libraries(tree / folder)):
            target = root / folder / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            if path.is_symlink():
                target.symlink_to(path.readlink())
            else:
                os.link(path, target)
    return root


def _named(root: Path) -> Iterator[str]:
    """The folders that the loader's configuration names."""
    for conf in (root / CONFIGURATION[0], *root.glob(f"{CONFIGURATION[1]}/*.conf")):
        if conf.is_file():
            yield from (line.strip().strip("/") for line in conf.read_text(errors="replace").splitlines() if line.startswith("/"))


def _unmerged(folder: str, merged: Mapping[str, str]) -> str:
    top, _, rest = folder.partition("/")
    return f"{merged.get(top, top)}/{rest}".rstrip("/")


def _libraries(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if ".so" in path.name and (path.is_symlink() or path.is_file()))
