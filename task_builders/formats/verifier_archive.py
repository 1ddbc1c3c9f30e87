"""Builds the verifier archive: `envfarm.grading` and the three modules that it needs, as one file for Python 3.8 or newer.

The same sources give the same bytes, and Harbor runs the same code as the farm.
"""

import io
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable

CORE = ("__init__.py", "change.py", "outcome.py", "plan.py")
EPOCH = (1980, 1, 1, 0, 0, 0)
MAIN = "import sys\n\nfrom envfarm.grading.verifier import main\n\nsys.exit(main())\n"


def build() -> bytes:
    """The archive's bytes."""
    root = resources.files("envfarm")
    files = {"__main__.py": MAIN.encode(), "envfarm/__init__.py": b'"""What of envfarm the verifier needs."""\n'}
    files |= {f"envfarm/core/{name}": (root / "core" / name).read_bytes() for name in CORE}
    files |= {f"envfarm/grading/{path}": data for path, data in _modules(root / "grading").items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, data in sorted(files.items()):
            entry = zipfile.ZipInfo(path, date_time=EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)  # not compressed: the bytes would depend on the machine's zlib
    return out.getvalue()


def _modules(folder: Traversable) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name != "__pycache__":
            found |= {f"{entry.name}/{path}": data for path, data in _modules(entry).items()}
        elif entry.name.endswith(".py"):
            found[entry.name] = entry.read_bytes()
    return found
