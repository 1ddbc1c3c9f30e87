"""An outcome as a number for trainers, or None if there is no reward. Pure; shared by the adapters."""

from collections.abc import Callable

from envfarm.core.errors import Cause, EnvfarmError, FailurePolicy
from envfarm.core.outcome import Censored, Invalid, Outcome, Scored

CensoredReward = Callable[[Censored], float | None]
"""The reward of an episode that ran out of a budget; None excludes it."""


def partial_or_zero(outcome: Censored) -> float | None:
    """The default: the reward of the unfinished work, 0 if it was not graded."""
    return outcome.partial.reward if outcome.partial is not None else 0.0


def left_out(_: Censored) -> float | None:
    """The alternative: censored episodes have no reward."""
    return None


def reward_of(outcome: Outcome | None, censored: CensoredReward = partial_or_zero) -> float | None:
    """A scored episode's reward. None for `Invalid` and for a missing outcome: neither is a 0."""
    if isinstance(outcome, Scored):
        return outcome.reward
    return censored(outcome) if isinstance(outcome, Censored) else None


class NoRewardError(EnvfarmError):
    """The episode has no reward: it is invalid, or censored and excluded. Raised for consumers that count a missing reward as 0."""

    policy = FailurePolicy(Cause.FARM, retry=True, grade=False, counts=False)


def required_reward(outcome: Outcome | None, censored: CensoredReward = partial_or_zero) -> float:
    """The result of `reward_of`. Raises `NoRewardError` if that is None."""
    reward = reward_of(outcome, censored)
    if reward is None:
        why = f"{outcome.cause}: {outcome.detail}" if isinstance(outcome, Invalid) else "cut off by a budget"
        raise NoRewardError(f"the episode has no reward, which is not a reward of 0: {why}", hint="run the task again")
    return reward
