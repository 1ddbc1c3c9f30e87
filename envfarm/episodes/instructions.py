"""The instructions of an episode's machine. The runner carries them out in order, each before the next."""

from dataclasses import dataclass
from typing import Literal

from envfarm.core.action import Action
from envfarm.core.outcome import Outcome
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import Step


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """Ask the policy for an action; answer with `Decided`, `ThinkingTimedOut`, `OutOfContext`, `LeftAlone` or `Failed`."""

    timeout_s: float
    """The time left in the episode, without outages of the policy's endpoint."""
    longest_outage_s: float
    """The most outage time that is excluded."""


@dataclass(frozen=True, slots=True)
class RunTool:
    """Carry out an action in the box; answer with `Observed`, `ActionTimedOut` or `Failed`."""

    action: Action
    index: int
    """The step's index in the episode; identifies the action in its box."""
    timeout_s: float


@dataclass(frozen=True, slots=True)
class RunProgram:
    """Run the agent's own program in the box; answer with `ProgramEnded` or `Failed`."""

    timeout_s: float
    """The episode's time, without outages of the program's model."""
    longest_outage_s: float
    """The most outage time that is excluded."""


@dataclass(frozen=True, slots=True)
class Append:
    """Make a step durable before the next instruction."""

    step: Step


@dataclass(frozen=True, slots=True)
class Keep:
    """Make durable what was sampled in the program's calls."""

    sampled: Sampled


@dataclass(frozen=True, slots=True)
class Grade:
    """Grade the agent's work; answer with `Graded` or `Failed`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The episode is over. Always the last instruction, given once."""

    ended: Literal["finished", "truncated", "failed", "cancelled"]
    outcome: Outcome
    unanswered: Action | None = None
    """The action that was started but has no observation."""


Instruction = AskPolicy | RunTool | RunProgram | Append | Keep | Grade | Stop
