"""The Python profile: joins the modules of this package to a `LanguageProfile`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from envfarm.core.plan import TestCommand
from envfarm.core.recipe import Recipe, Toolchain
from task_builders.languages.profile import Failure, Repair
from task_builders.languages.project import Project
from task_builders.languages.python import adoption, facts, paths, pytest_command, recipe, repair
from task_builders.languages.python.facts import Facts


class Resolver(Protocol):
    """Pins a recipe's requirements."""

    async def lock(self, recipe: Recipe) -> Recipe:
        """The recipe with pinned versions, or one that is resolved in its box. Raises `ImageError` if nothing satisfies it."""
        ...


class PythonProfile:
    """Python, by rules. Caches the facts of the last project, since each is queried several times."""

    name = "python"
    influencing = paths.INFLUENCING
    influencing_outside = paths.INFLUENCING_OUTSIDE

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._last: tuple[Project, Facts] | None = None

    def is_test(self, path: str) -> bool:
        """See `paths.is_test`."""
        return paths.is_test(path)

    def is_source(self, path: str) -> bool:
        """See `paths.is_source`."""
        return paths.is_source(path)

    def ladder(self, project: Project, date: datetime, toolchains: Sequence[Toolchain]) -> Sequence[Recipe]:
        """See `recipe.ladder`."""
        return recipe.ladder(project, self._facts(project), date, toolchains)

    def adopt(self, remembered: Recipe, wanted: Recipe) -> Recipe | None:
        """See `adoption.adopt`."""
        return adoption.adopt(remembered, wanted)

    async def lock(self, recipe: Recipe) -> Recipe:
        """See `Resolver.lock`."""
        return await self._resolver.lock(recipe)

    def repair(self, project: Project, recipe: Recipe, failure: Failure) -> Repair | None:
        """See `repair.repair`."""
        return repair.repair(project, self._facts(project), recipe, failure)

    def commands(self, project: Project, recipe: Recipe, test_files: Sequence[str]) -> tuple[TestCommand, ...]:
        """One run of pytest with a JUnit report. unittest suites run through it, too."""
        return (pytest_command.command(project, self._facts(project), test_files, recipe),)

    def _facts(self, project: Project) -> Facts:
        if self._last is None or self._last[0] is not project:
            self._last = (project, facts.read(project))
        return self._last[1]
