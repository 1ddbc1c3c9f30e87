"""An outcome as the number that a trainer wants, or None where there is none. Pure; for the adapters beside it."""

from collections.abc import Callable

from envfarm.core.errors import Cause, EnvfarmError, FailurePolicy
from envfarm.core.outcome import Censored, Invalid, Outcome, Scored

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


class NoRewardError(EnvfarmError):
    """The episode has no reward: the farm's fault, or censored and left out. Raised to peers that count a missing reward as 0."""

    policy = FailurePolicy(Cause.FARM, retry=True)


def required_reward(outcome: Outcome | None, censored: CensoredReward = partial_or_zero) -> float:
    """What `reward_of` says. Raises `NoRewardError` where that is nothing."""
    reward = reward_of(outcome, censored)
    if reward is None:
        why = f"{outcome.cause}: {outcome.detail}" if isinstance(outcome, Invalid) else "cut off by a budget"
        raise NoRewardError(f"the episode has no reward, which is not a reward of 0: {why}", hint="play the task again")
    return reward
