"""What the episode's machine asks for. Carried out by the runner, in order, each before the next."""

from dataclasses import dataclass
from typing import Literal

from envfarm.core.action import Action
from envfarm.core.outcome import Outcome
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import Step


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """Have the policy choose; answer with `Decided`, `ThinkingTimedOut`, `OutOfContext`, `LeftAlone` or `Failed`."""

    timeout_s: float
    """What is left of the episode's time. That in which the policy's endpoint cannot be had does not count."""
    longest_outage_s: float
    """So much of it, at the most."""


@dataclass(frozen=True, slots=True)
class RunTool:
    """Carry an action out in the box; answer with `Observed`, `ActionTimedOut` or `Failed`."""

    action: Action
    index: int
    """The step's place in the episode: it names the action in its box."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Run the agent's own program in the box; answer with `ProgramEnded` or `Failed`."""

    timeout_s: float
    """Of the episode. That in which its model cannot be had does not count."""
    longest_outage_s: float
    """So much of it, at the most."""


@dataclass(frozen=True, slots=True)
class Append:
    """Make a step durable before anything else happens."""

    step: Step


@dataclass(frozen=True, slots=True)
class Keep:
    """Make durable what a program's calls sampled."""

    sampled: Sampled


@dataclass(frozen=True, slots=True)
class Grade:
    """Grade what the agent left; answer with `Graded` or `Failed`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The episode is over. Always the last instruction, and given once."""

    ended: Literal["finished", "truncated", "failed", "cancelled"]
    outcome: Outcome
    unanswered: Action | None = None
    """The action that was begun, and of which nothing came."""


Instruction = AskPolicy | RunTool | RunProgram | Append | Keep | Grade | Stop
