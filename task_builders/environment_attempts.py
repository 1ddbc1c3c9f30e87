"""What setting an environment up comes to: each try, and the environment found or the reason for none.

Made by `environments`; read by the pipeline. All tries are kept in `attempt_ledger`.
"""

from typing import Literal

from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.image import BuildFacts, Environment
from envfarm.core.recipe import Recipe


class Attempt(Frozen):
    """One try of one recipe."""

    repository: str
    recipe: Digest
    layer: Digest
    language: str = ""
    sandbox: str = ""
    """The provider in whose boxes the suite ran."""
    rung: str = ""
    """Where the search began: the memory, or a rung of the ladder."""
    why: str
    """Where the recipe came from: the rung, or a rule of repair that followed on it."""
    result: Literal["works", "lock", "build", "tests"]
    """`works`, or the stage that failed."""
    seconds: float
    lock_s: float = 0.0
    build_s: float = 0.0
    tests_s: float = 0.0
    layer_bytes: int = 0
    """Of the shared layer, unpacked; 0 where it was not built."""
    layer_reused: bool = False
    passed: int = 0
    failed: int = 0
    reason: str = ""


class SetUp(Frozen):
    """An environment in which a project's suite runs."""

    recipe: Recipe
    environment: Environment
    attempts: tuple[Attempt, ...]
    passed: int
    failed: int
    lost_files: int = 0
    """Test files that could not be loaded, as one failed test each."""
    tests_s: float = 0.0
    """How long its suite took."""
    facts: tuple[BuildFacts, ...] = ()
    """Of every build on the way to it."""

    @property
    def share(self) -> float:
        """The part of the tests that ran which passed."""
        return self.passed / max(1, self.passed + self.failed)


class NoSetUp(Frozen):
    """Every recipe failed, or the time was over."""

    reason: str
    """One line for a table, without names or figures."""
    detail: str
    attempts: tuple[Attempt, ...] = ()


class Budget(Frozen):
    """What one project may cost."""

    total_s: float = 1800.0
    rung_s: float = 900.0
    repairs_per_rung: int = 5
    memory_mib: int = 4096
    disk_mib: int = 8192
    cpus: float = 2.0
