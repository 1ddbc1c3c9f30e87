"""What killed farms left in a home and on the machine that no living farm holds. Reads files, locks, groups and the process table.

Each function gives complaints. `living` holds names (of boxes, owners, layers, locks) that are a neighbour's, and must stay.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

from tests.chaos import processes

PERMANENT_LOCKS = frozenset({".lock"})
"""Lock files that are never removed: whoever holds one is told by the kernel."""
FOREIGN = ("cache/packages", "cache/resolver", "cache/apt", "toolchains/python-", "toolchains/.uv")
"""Below a home: what uv, apt and CPython make for themselves."""
GROUPS = Path("/sys/fs/cgroup")
UNFINISHED = (".new-", ".probed-", ".probe-", "tmp")


def in_home(home: Path, living: AbstractSet[str]) -> list[str]:
    """No box, owner, half layer, half file or lock of a dead process."""
    found = [f"boxes/{path.name} is left" for path in _entries(home / "boxes") if path.name not in living]
    for path in _walk(home):
        name, place = path.name, str(path.relative_to(home))
        if any(part in living for part in path.relative_to(home).parts):
            continue
        if name.startswith(UNFINISHED) or name.endswith((".new", ".part")) or (name.startswith(".") and ".json-" in name):
            found.append(f"{place} is half made")
        elif name.startswith(".lock-") or name.endswith(".lock"):
            found.append(f"{place} is a stale lock" if name not in PERMANENT_LOCKS and not _is_held(path) else "")
            if name in PERMANENT_LOCKS and _is_held(path):
                found.append(f"{place} is held by somebody")
    return [complaint for complaint in found if complaint] + whole_layers(home / "layers", living)


def whole_layers(layers: Path, living: AbstractSet[str]) -> list[str]:
    """Every layer has its tree and its note, and as many bytes as were written down."""
    found = []
    for place in _entries(layers):
        if place.name in living or place.name.startswith("."):
            continue
        try:
            meta = json.loads((place / "meta.json").read_bytes())
        except (OSError, ValueError) as e:
            found.append(f"layer {place.name}: {e}")
            continue
        size = sum(path.lstat().st_size for path in (place / "tree").rglob("*") if path.is_file() and not path.is_symlink())
        if not (place / "tree").is_dir() or meta.get("bytes", size) != size:
            found.append(f"layer {place.name} holds {size} bytes, and {meta.get('bytes')} were written down")
        if (place / "replaced").exists():
            found.append(f"layer {place.name} still holds what it replaced")
    return found


def in_temporary(directory: Path) -> list[str]:
    """Nothing in the directory for temporary files that the farms were given."""
    return [f"{path} is a temporary file of the dead" for path in _entries(directory)]


def in_groups(owners: AbstractSet[str], living: AbstractSet[str], *, root: Path = GROUPS) -> list[str]:
    """No control group of a box of these owners."""
    # Other farms' groups come and go while this looks: `os.walk` takes no offence at it.
    groups = [Path(folder, name) for folder, names, _ in os.walk(root) if folder.endswith("/envfarm") for name in names]
    return [f"{path} is left" for path in groups if path.name.partition("-")[0] in owners and path.name not in living]


def in_process_table(home: Path, neighbours: AbstractSet[int], *, patience_s: float) -> list[str]:
    """No descendant but neighbours, and no mount of the home but theirs."""
    left = processes.left_below_me(but=neighbours, patience_s=patience_s)
    found = [f"process {process.pid} is left: {process.command[:120]}" for process in left]
    theirs = {process.pid for pid in neighbours for process in processes.below(pid)}
    return found + [f"process {pid} has mounts of {home}" for pid in processes.mounting(home) if pid not in theirs]


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _walk(home: Path) -> Iterator[Path]:
    """Every path of the home outside layers' trees, boxes and what is not ours to judge."""
    for folder, directories, files in os.walk(home):
        place = os.path.relpath(folder, home)
        if place == "boxes" or place.startswith(FOREIGN) or place.endswith("/tree"):
            directories.clear()
            continue
        yield from (Path(folder, name) for name in (*directories, *files))


def _is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
