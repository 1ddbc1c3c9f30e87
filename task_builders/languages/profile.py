"""What the builders must know of a language: one profile each. Used by `task_builders.environments`, by candidates (which part of a
change is tests) and by specs (the test plan). A profile decides; it starts nothing save its resolver.
"""

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
    """How a try of a recipe ended, for the rules of repair."""

    stage: Stage
    log: str
    """What was printed: of the resolver, the failing step, or the test run."""
    statuses: dict[str, TestStatus] = field(default_factory=dict)
    """What the tests said, where they ran."""


@dataclass(frozen=True)
class Repair:
    """Another recipe to try, and which rule asked for it."""

    recipe: Recipe
    why: str


class LanguageProfile(Protocol):
    """A language, as data and pure decisions."""

    @property
    def name(self) -> str:
        """`python`, …"""
        ...

    @property
    def influencing(self) -> tuple[str, ...]:
        """Globs, relative to the work dir, of files that decide what tests do: an agent's change to one is dropped at grading."""
        ...

    @property
    def influencing_outside(self) -> tuple[str, ...]:
        """The same for absolute paths, without the leading slash."""
        ...

    def is_test(self, path: str) -> bool:
        """Whether a file belongs to the tests (their data and configuration files included)."""
        ...

    def is_source(self, path: str) -> bool:
        """Whether a file belongs to what is tested. Documentation, changelogs and CI are neither source nor test."""
        ...

    def ladder(self, project: Project, date: datetime, toolchains: Sequence[Toolchain]) -> Sequence[Recipe]:
        """Recipes to try, best first, for a commit of this date with these toolchains at hand. Empty where none can be had."""
        ...

    def adopt(self, remembered: Recipe, wanted: Recipe) -> Recipe | None:
        """The remembered recipe with the wanted one's project steps, where it meets all that the wanted one asks for."""
        ...

    async def lock(self, recipe: Recipe) -> Recipe:
        """The recipe with its dependencies resolved, so that an equal lock is an equal layer. Raises `ImageError` with the log."""
        ...

    def repair(self, project: Project, recipe: Recipe, failure: Failure) -> Repair | None:
        """The recipe changed by the first rule that knows this failure; None where no rule does."""
        ...

    def commands(self, project: Project, recipe: Recipe, test_files: Sequence[str]) -> tuple[TestCommand, ...]:
        """The commands that run these test files, or the whole suite where none is named."""
        ...
