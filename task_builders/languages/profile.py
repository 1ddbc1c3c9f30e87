"""What the builders must know of a language: one profile each. A profile only decides; it starts nothing but its resolver."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from envfarm.core.outcome import TestStatus
from envfarm.core.plan import TestCommand
from envfarm.core.recipe import Recipe, Toolchain
from task_builders.languages.project import Project

Stage = Literal["lock", "build", "tests"]


@dataclass(frozen=True)
class Failure:
    """How an attempt with a recipe ended, for the repair rules."""

    stage: Stage
    log: str
    """Output of the resolver, the failing step, or the test run."""
    statuses: dict[str, TestStatus] = field(default_factory=dict)
    """The tests' statuses, if they ran."""


@dataclass(frozen=True)
class Repair:
    """Another recipe to try, and the rule that proposed it."""

    recipe: Recipe
    why: str


class LanguageProfile(Protocol):
    """A language as data and pure decisions."""

    @property
    def name(self) -> str:
        """`python`, …"""
        ...

    @property
    def influencing(self) -> tuple[str, ...]:
        """Globs, relative to the work dir, of files that influence the tests. Grading drops an agent's changes to them."""
        ...

    @property
    def influencing_outside(self) -> tuple[str, ...]:
        """The same for absolute paths, without the leading slash."""
        ...

    def is_test(self, path: str) -> bool:
        """Whether a file belongs to the tests, including their data and configuration."""
        ...

    def is_source(self, path: str) -> bool:
        """Whether a file belongs to what is tested. Documentation, changelogs and CI are neither source nor test."""
        ...

    def ladder(self, project: Project, date: datetime, toolchains: Sequence[Toolchain]) -> Sequence[Recipe]:
        """Recipes to try, best first, for a commit of this date with the available toolchains. Empty if there is none."""
        ...

    def adopt(self, remembered: Recipe, wanted: Recipe) -> Recipe | None:
        """The remembered recipe with the wanted one's project steps, if it meets everything that the wanted one requires; else None."""
        ...

    async def lock(self, recipe: Recipe) -> Recipe:
        """The recipe with its dependencies resolved, so that equal locks give equal layers. Raises `ImageError` with the log."""
        ...

    def repair(self, project: Project, recipe: Recipe, failure: Failure) -> Repair | None:
        """The recipe changed by the first rule that recognizes this failure; None if no rule does."""
        ...

    def commands(self, project: Project, recipe: Recipe, test_files: Sequence[str]) -> tuple[TestCommand, ...]:
        """The commands that run these test files, or the whole suite if none is given."""
        ...
