"""An outcome as the number that a trainer wants, or None where there is none. Pure; for the adapters beside it."""

from collections.abc import Callable

from envfarm.core.outcome import Censored, Outcome, Scored

CensoredReward = Callable[[Censored], float | None]
"""What an episode counts that ran out of a budget; None leaves it out."""


def partial_or_zero(outcome: Censored) -> float | None:
    """The documented default: what the unfinished work scores, 0 where it was not graded."""
    return outcome.partial.reward if outcome.partial is not None else 0.0


def left_out(_: Censored) -> float | None:
    """The other choice: what was cut off teaches nothing."""
    return None


def reward_of(outcome: Outcome | None, censored: CensoredReward = partial_or_zero) -> float | None:
    """A scored episode's reward. None for `Invalid` and where there is no outcome yet: neither is a zero."""
    if isinstance(outcome, Scored):
        return outcome.reward
    return censored(outcome) if isinstance(outcome, Censored) else None
