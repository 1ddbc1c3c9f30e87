"""What simulated boxes do instead of running programs, and how long they take over it. Handed to the simulator by whoever starts it."""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp
from random import Random
from typing import NamedTuple

from envfarm.testing.boxd_simulator.tree import Tree


class Asked(NamedTuple):
    """A run that a box was asked for."""

    exec_id: str
    argv: tuple[str, ...]
    """Empty for a line."""
    line: str
    """For a shell; empty for an argv."""
    session: str
    user: str
    cwd: str


class Played(NamedTuple):
    """What comes of a run."""

    exit_code: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float | None = None
    """How long it takes; drawn where absent."""


Script = Callable[[Asked, Tree], Played | None]
"""Asked of each run; None leaves it to the shell of a few words."""


def no_script(_: Asked, __: Tree) -> Played | None:
    """Leaves everything to the shell of a few words."""
    return None


@dataclass(frozen=True, slots=True)
class Delays:
    """How long runs take: log-normal, drawn from the seed and the run's own name, so that no order of events changes them."""

    seed: int = 0
    median_s: float = 0.0
    spread: float = 0.8
    """Of the logarithm: 0.8 has a run in a hundred take six times the median."""
    longest_s: float = 60.0

    def draw(self, name: str) -> float:
        """The seconds of the run of this name."""
        if self.median_s <= 0:
            return 0.0
        chance = Random(f"{self.seed} {name}")  # noqa: S311 - a draw that can be repeated, no secret
        return min(self.median_s * exp(self.spread * chance.gauss(0.0, 1.0)), self.longest_s)
