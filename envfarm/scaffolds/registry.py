"""The scaffolds that there are: those that ship, and those of the operator, whose file of the same name comes first. Used by `wiring`.

A scaffold is asked for by its name and never by a path, since tenants of a service may ask for one.
"""

import re
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pydantic import ValidationError

from envfarm.core.errors import UsageError
from envfarm.core.scaffold import NAME, Scaffold

SUFFIX = ".toml"


class Scaffolds:
    """Read anew whenever one is asked for: a file that is added or mended needs no restart."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the operator's; it need not be there."""
        self._folder = folder

    def find(self, name: str) -> Scaffold:
        """Raises `UsageError` for one that there is not, or whose file is wrong."""
        if re.fullmatch(NAME, name):
            for place in (self._folder, resources.files(__package__)):
                file = place / f"{name}{SUFFIX}"
                if file.is_file():
                    return _read(file, name)
        hint = f"there are {', '.join(self.names())}; {self._folder}/NAME{SUFFIX} adds one"
        raise UsageError(f"there is no scaffold {name!r}", hint=hint)

    def names(self) -> tuple[str, ...]:
        """All of them, sorted."""
        places = [self._folder] if self._folder.is_dir() else []
        files = [file.name for place in (*places, resources.files(__package__)) for file in place.iterdir()]
        return tuple(sorted({name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)}))


def _read(file: Traversable | Path, name: str) -> Scaffold:
    try:
        return Scaffold.model_validate({"name": name, **tomllib.loads(file.read_text(encoding="utf-8"))})
    except (OSError, ValueError) as e:
        first = e.errors()[0] if isinstance(e, ValidationError) else None
        what = f"`{'.'.join(map(str, first['loc'])) or 'it'}`: {first['msg']}" if first else str(e)
        raise UsageError(f"the scaffold {file} cannot be read: {what}", hint="docs/scaffolds.md has its fields") from e
