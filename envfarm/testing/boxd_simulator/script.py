"""What simulated boxes do instead of running programs, and how long it takes. Passed to the simulator when it is started."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from random import Random
from typing import NamedTuple

from envfarm.testing.boxd_simulator.tree import Tree


class Asked(NamedTuple):
    """A requested run."""

    exec_id: str
    argv: tuple[str, ...]
    """Empty for a shell line."""
    line: str
    """A shell line; empty for an argv."""
    session: str
    user: str
    cwd: str


class Played(NamedTuple):
    """The result of a run."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float | None = None
    """Its duration; None: drawn at random."""


Script = Callable[[Asked, Tree], Played | None]
"""Called for each run; None leaves the run to the simulator's own small shell."""


def no_script(_: Asked, __: Tree) -> Played | None:
    """Leaves every run to the small shell."""
    return None


@dataclass(frozen=True, slots=True)
class Delays:
    """Random durations of runs: log-normal, derived from the seed and the run's name, so that the order of events does not matter."""

    seed: int = 0
    median_s: float = 0.0
    spread: float = 0.8
    """The standard deviation of the logarithm: with 0.8, one run in a hundred takes six times the median."""
    longest_s: float = 60.0

    def draw(self, name: str) -> float:
        """The duration in seconds of the run with this name."""
        if self.median_s <= 0:
            return 0.0
        chance = Random(f"{self.seed} {name}")  # noqa: S311 - reproducible, not a secret
        return min(self.median_s * exp(self.spread * chance.gauss(0.0, 1.0)), self.longest_s)
