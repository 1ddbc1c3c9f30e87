"""The events of an episode's machine. The runner makes them from what it saw: facts only, no decisions."""

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
    """The box answers and its initial tree is marked. The episode's clock starts."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """Replaces `Started`: the recorded steps were replayed in a new box, and each observation agreed."""

    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Decided:
    """The policy chose an action."""

    action: Action
    call: ModelCall | None
    at: datetime
    """Wall time, for the record only."""
    outage_s: float = 0.0
    """How much of the time since `AskPolicy` the policy's endpoint was unavailable."""


@dataclass(frozen=True, slots=True)
class ThinkingTimedOut:
    """The policy had not chosen within the time of `AskPolicy`."""

    outage_s: float = 0.0
    """Time not counted, because the policy's endpoint was unavailable."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The action ended."""

    text: str
    """The box's whole output, not yet cut to the policy's limit."""
    duration_s: float
    exit_code: int | None = None
    truncated: bool = False
    """Whether the box itself dropped a part."""
    is_error: bool = False
    cores: float | None = None


@dataclass(frozen=True, slots=True)
class ActionTimedOut:
    """The action was still running at its time limit. It and what it started were killed."""

    text: str
    duration_s: float
    truncated: bool = False
    cores: float | None = None


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """The agent's own program ended, or reached its budgets or its time limit."""

    command: Action
    seen: Observed | ActionTimedOut
    sampled: Sampled
    """By the gateway's account, not the program's."""
    at: datetime
    """Wall time of its start, for the record only."""


@dataclass(frozen=True, slots=True)
class OutOfContext:
    """The conversation no longer fits the model's context."""


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """The caller that chooses the actions has been idle for longer than the budgets allow."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Something failed: the box is lost or broken, the policy or the grader is unavailable, a store is full.

    One event for all of these: what follows is defined by the failure's class in `envfarm.core.errors` and nowhere else.
    """

    policy: FailurePolicy
    detail: str


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The episode was cancelled."""

    reason: str


@dataclass(frozen=True, slots=True)
class Graded:
    """The grader's verdict on the agent's work."""

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
