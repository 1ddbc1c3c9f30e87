"""Builds the verifier archive: `envfarm.grading` and the three modules that it needs, as one file for Python 3.8 or newer.

The same sources give the same bytes, and Harbor runs the same code as the farm, with the same variables.
"""

import io
import json
import zipfile
from importlib import resources
from importlib.resources.abc import Traversable

from envfarm.core.recipe import Recipe
from envfarm.grading.verifier import ENVIRONMENT
from envfarm.images.dockerfile import environment_variables, python_in_image

CORE = ("__init__.py", "change.py", "outcome.py", "plan.py")
EPOCH = (1980, 1, 1, 0, 0, 0)
OF_AGENT = {"HOME": "/home/agent", "USER": "agent", "LOGNAME": "agent", "SHELL": "/bin/sh"}
"""What boxes of the farm set."""
MAIN = "import sys\n\nfrom envfarm.grading.verifier import main\n\nsys.exit(main())\n"


def files(recipe: Recipe) -> dict[str, bytes]:
    """What an exporter adds to a task's plan and sealed files: the archive, and the variables of the task's environment."""
    variables = {**OF_AGENT, **environment_variables(recipe, python=python_in_image(recipe.toolchain))}
    return {"tests/verifier.pyz": build(), f"tests/{ENVIRONMENT}": json.dumps(variables, indent=1, sort_keys=True).encode()}


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
