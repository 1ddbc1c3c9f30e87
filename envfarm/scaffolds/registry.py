"""The available scaffolds: shipped ones and the operator's. An operator's file replaces a shipped one of the same name.

Scaffolds are requested by name, never by path, since tenants of a service may request them.
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
    """Files are read at each request, so adding or fixing one needs no restart."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the operator's; it may be missing."""
        self._folder = folder

    def find(self, name: str) -> Scaffold:
        """Raises `UsageError` for an unknown scaffold or an invalid file."""
        if re.fullmatch(NAME, name):
            for place in (self._folder, resources.files(__package__)):
                file = place / f"{name}{SUFFIX}"
                if file.is_file():
                    return _read(file, name)
        hint = f"scaffolds: {', '.join(self.names())}; to add one, write {self._folder}/NAME{SUFFIX}"
        raise UsageError(f"there is no scaffold {name!r}", hint=hint)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        places = [self._folder] if self._folder.is_dir() else []
        files = [file.name for place in (*places, resources.files(__package__)) for file in place.iterdir()]
        return tuple(sorted({name.removesuffix(SUFFIX) for name in files if name.endswith(SUFFIX)}))


def _read(file: Traversable | Path, name: str) -> Scaffold:
    try:
        return Scaffold.model_validate({"name": name, **tomllib.loads(file.read_text(encoding="utf-8"))})
    except (OSError, ValueError) as e:
        first = e.errors()[0] if isinstance(e, ValidationError) else None
        what = f"`{'.'.join(map(str, first['loc'])) or 'it'}`: {first['msg']}" if first else str(e)
        raise UsageError(f"the scaffold {file} is invalid: {what}", hint="see docs/scaffolds.md for the fields") from e
