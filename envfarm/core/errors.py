"""Every failure of the farm, and what each means for an episode: its class's policy. Nothing is keyed by a class's name.

A failure is attributed to one boundary, then recorded once. `boundary` classifies; nothing else catches `Exception`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class Cause(StrEnum):
    """Whose fault a failure is, in the words that trainers and dashboards see."""

    USAGE = "usage"
    SOURCE = "source"
    TASK = "task"
    IMAGE = "image"
    SANDBOX = "sandbox"
    AGENT = "agent"
    POLICY = "policy"
    GATEWAY = "gateway"
    GRADER = "grader"
    STORE = "store"
    FARM = "farm"
    """The farm's own process died: a bug, a machine without memory, or a person who killed it."""
    CANCELLED = "cancelled"
    """Nobody's: somebody called it off."""


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What follows from a failure during an episode."""

    cause: Cause
    retry: bool = False
    """Whether the episode is tried again (bounded; then it is poisoned and shown to a person)."""
    grade: bool = False
    """Whether what the agent left is graded all the same."""
    counts: bool = False
    """Whether the sample counts for the learner."""


class EnvfarmError(Exception):
    """The root of what the farm raises. `hint` says what a person can do about it; a traceback shows it too."""

    policy: ClassVar[FailurePolicy] = FailurePolicy(Cause.FARM)

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")


class UsageError(EnvfarmError):
    """A person's input is wrong: the message says what and where, the hint what to do."""

    policy = FailurePolicy(Cause.USAGE)


class NotFound(EnvfarmError):  # noqa: N818 - a state of the world, as in `ConnectionLost`
    """What was asked for is not there. What belongs to another tenant is not there either."""

    policy = FailurePolicy(Cause.USAGE)


class Conflict(EnvfarmError):  # noqa: N818 - see NotFound
    """A thing is in a state that does not allow it, or an idempotency key was used for another request."""

    policy = FailurePolicy(Cause.USAGE)


class Denied(EnvfarmError):  # noqa: N818 - see NotFound
    """The token is missing, unknown or lacks the scope, or the operator has not listed an address."""

    policy = FailurePolicy(Cause.USAGE)


class Overloaded(EnvfarmError):  # noqa: N818 - see NotFound
    """A queue or a quota is full. `retry_after_s` says when to come again."""

    policy = FailurePolicy(Cause.FARM, retry=True)

    def __init__(self, message: str, *, retry_after_s: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Unsupported(EnvfarmError):  # noqa: N818 - see NotFound
    """This farm or this sandbox has not got the capability."""

    policy = FailurePolicy(Cause.USAGE)


class SourceError(EnvfarmError):
    """A source of records (repository, API, dump, index) could not be read."""

    policy = FailurePolicy(Cause.SOURCE)


class TaskError(EnvfarmError):
    """A task directory or archive is not a valid task."""

    policy = FailurePolicy(Cause.TASK)


class ImageError(EnvfarmError):
    """An environment could not be built or had."""

    policy = FailurePolicy(Cause.IMAGE, retry=True)


class BuildOutage(ImageError):  # noqa: N818 - a state of the world, as in `ConnectionLost`
    """An index, a mirror, a registry, the builder's daemon or a task writer does not answer; or the machine has no room, or no longer what
    was made on it. That says nothing about the recipe or the record, and refuses no task.
    """


class SandboxError(EnvfarmError):
    """A box could not be made, reached or removed, and the box's inside is not to blame."""

    policy = FailurePolicy(Cause.SANDBOX, retry=True)


class BoxLost(SandboxError):  # noqa: N818 - a state of the world, as in `ConnectionLost`
    """The box is gone, and something outside of it says so (the provider, the node, the kernel)."""


class StepsLost(SandboxError):  # noqa: N818 - see BoxLost
    """Steps whose observations a caller outside of the farm remembers cannot be brought back: its next step would meet another state."""

    policy = FailurePolicy(Cause.SANDBOX)


class BoxBroken(EnvfarmError):  # noqa: N818 - see BoxLost
    """Boxd does not answer, or ended, and the provider says that nothing outside of the box ended it: what runs inside broke it.

    Not a `SandboxError`: an agent must not be able to buy a retry by breaking its own box.
    """

    policy = FailurePolicy(Cause.AGENT, grade=True, counts=True)


class PolicyError(EnvfarmError):
    """The policy's endpoint is down, slow, or speaks nonsense."""

    policy = FailurePolicy(Cause.POLICY, retry=True)


class PolicyRefused(PolicyError):  # noqa: N818 - see BoxLost
    """The policy's endpoint answers that it will not have such requests (a wrong key, an unknown model): asking again changes nothing."""

    policy = FailurePolicy(Cause.POLICY)


class ContextExhausted(EnvfarmError):  # noqa: N818 - see BoxLost
    """The conversation no longer fits the policy's model: a budget of the agent that ran out, not a fault of its endpoint."""

    policy = FailurePolicy(Cause.AGENT, grade=True, counts=True)


class Unattended(EnvfarmError):  # noqa: N818 - see BoxLost
    """No call came for a step-driven episode for as long as its budgets allow: its trainer died, or left it."""

    policy = FailurePolicy(Cause.POLICY, grade=True, counts=True)


class GatewayError(EnvfarmError):
    """The model proxy failed."""

    policy = FailurePolicy(Cause.GATEWAY, retry=True)


class GraderError(EnvfarmError):
    """The grader itself failed: not the agent's work, and not a zero."""

    policy = FailurePolicy(Cause.GRADER, retry=True)


class ClusterError(EnvfarmError):
    """What hosts or builds are spread over (Ray) does not answer, or lost a process that did some work."""

    policy = FailurePolicy(Cause.FARM, retry=True)


class StoreError(EnvfarmError):
    """The database or the blob store failed."""

    policy = FailurePolicy(Cause.STORE, retry=True)


@contextmanager
def boundary(error: type[EnvfarmError], what: str) -> Iterator[None]:
    """Attribute whatever fails inside to one boundary.

    What is classified already passes; cancellation and interrupts pass; the rest becomes `error`, with the cause chained. Works
    around `await` as well, since it suspends nothing itself.
    """
    try:
        yield
    except EnvfarmError:
        raise
    except TimeoutError as e:
        raise error(f"{what}: timed out{f' ({e})' if str(e) else ''}") from e
    except Exception as e:
        raise error(f"{what}: {type(e).__name__}: {e}") from e
