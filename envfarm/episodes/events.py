"""What the episode's machine is told. Made by the runner from what it saw; facts only, no decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from envfarm.core.action import Action
from envfarm.core.errors import FailurePolicy
from envfarm.core.model_call import ModelCall
from envfarm.core.outcome import Outcome
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import Step


@dataclass(frozen=True, slots=True)
class Started:
    """The box answers and its starting tree is marked. The clock of the episode starts."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A new box was brought to where the recorded steps ended, and each observation agreed. Instead of `Started`."""

    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Decided:
    """The policy chose."""

    action: Action
    call: ModelCall | None
    at: datetime
    """Wall time, for the record alone."""
    outage_s: float = 0.0
    """For how much of the time since `AskPolicy` the policy's endpoint could not be had."""


@dataclass(frozen=True, slots=True)
class ThinkingTimedOut:
    """The policy had not chosen when the time that `AskPolicy` left for it was over."""

    outage_s: float = 0.0
    """What was left out of that time, because the policy's endpoint could not be had."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The action came to its end."""

    text: str
    """Everything that the box said, not yet cut to the policy's limit."""
    duration_s: float
    exit_code: int | None = None
    truncated: bool = False
    """Whether the box itself dropped a part."""
    is_error: bool = False
    cores: float | None = None


@dataclass(frozen=True, slots=True)
class ActionTimedOut:
    """The action was still running when its time was over; it and what it started are dead."""

    text: str
    duration_s: float
    truncated: bool = False
    cores: float | None = None


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """The agent's own program came to its end, or to that of its budgets or its time."""

    command: Action
    seen: Observed | ActionTimedOut
    sampled: Sampled
    """By the gateway's account, not by the program's."""
    at: datetime
    """Wall time of its beginning, for the record alone."""


@dataclass(frozen=True, slots=True)
class OutOfContext:
    """The conversation no longer fits the policy's model."""


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """Whoever was to choose has not called for as long as the budgets allow."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A boundary failed: the box is lost or broken, the policy or the grader cannot be asked, a store is full.

    One event for all of them, because what follows stands in `envfarm.core.errors` on the failure's class and nowhere else.
    """

    policy: FailurePolicy
    detail: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody called the episode off."""

    reason: str


@dataclass(frozen=True, slots=True)
class Graded:
    """The grader's verdict on what the agent left."""

    outcome: Outcome


Event = (
    Started
    | Resumed
    | Decided
    | ThinkingTimedOut
    | Observed
    | ActionTimedOut
    | ProgramEnded
    | OutOfContext
    | LeftAlone
    | Failed
    | Cancelled
    | Graded
)
