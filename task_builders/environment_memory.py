"""What worked: per repository the recipes of its last good environments, in one small JSON file. Used by `environments` alone."""

import json
from pathlib import Path

from pydantic import ValidationError

from envfarm.core.errors import StoreError
from envfarm.core.frozen import Frozen
from envfarm.core.recipe import Recipe
from envfarm.stores import whole_files

KEPT = 6


class Remembered(Frozen):
    """A recipe that worked, and how well."""

    recipe: Recipe
    share: float
    """Of the tests that ran, those that passed."""
    lost_files: int = 0
    """Test files that could not be loaded."""


class EnvironmentMemory:
    """The newest recipes come first. Several processes may share the file: the last writer of one repository wins, none tears it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        whole_files.collect(folder.glob(f"{whole_files.FRESH}*"))

    def recall(self, repository: str) -> tuple[Remembered, ...]:
        """The recipes that worked for this repository; nothing where there are none, or where they are of another format."""
        try:
            rows = json.loads(self._file(repository).read_text())
            return tuple(Remembered.model_validate(row) for row in rows)
        except (FileNotFoundError, ValueError, ValidationError):
            return ()

    def remember(self, repository: str, worked: Remembered) -> None:
        """Put a recipe first, once per layer. Raises `StoreError` when it cannot be written."""
        others = [r for r in self.recall(repository) if r.recipe.layer_digest != worked.recipe.layer_digest]
        rows = [worked, *others][:KEPT]
        text = json.dumps([r.model_dump(mode="json") for r in rows], indent=1, sort_keys=True)
        try:
            whole_files.write(self._file(repository), text.encode())
        except OSError as e:
            raise StoreError(f"the memory of environments in {self._folder} cannot be written: {e}") from e

    def _file(self, repository: str) -> Path:
        safe = "".join(c if c.isalnum() or c in "-_." else "+" for c in repository).strip(".") or "unnamed"
        return self._folder / f"{safe}.json"
