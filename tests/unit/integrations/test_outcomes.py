"""An outcome as a number: nothing that is the farm's fault becomes one."""

import pytest

from envfarm.core.outcome import Censored, Integrity, Invalid, Outcome, Scored
from envfarm.core.outcome import TestReport as SuiteReport
from envfarm.integrations.outcomes import NoRewardError, left_out, required_reward, reward_of


def scored(reward: float) -> Scored:
    return Scored(reward=reward, components={}, report=SuiteReport(), integrity=Integrity(mode="isolated"), why="")


INVALID = Invalid(cause="sandbox", retryable=True, detail="the node is gone")


@pytest.mark.parametrize(
    ("outcome", "reward", "without_the_censored"),
    [
        (scored(1.0), 1.0, 1.0),
        (scored(0.0), 0.0, 0.0),
        (Censored(budget="turns", partial=scored(0.5)), 0.5, None),
        (Censored(budget="seconds", partial=None), 0.0, None),
        (INVALID, None, None),
        (None, None, None),
    ],
)
def test_what_an_outcome_counts(outcome: Outcome | None, reward: float | None, without_the_censored: float | None) -> None:
    assert reward_of(outcome) == reward
    assert reward_of(outcome, left_out) == without_the_censored


def test_a_missing_reward_is_raised_with_whose_fault_it_is() -> None:
    assert required_reward(scored(0.0)) == 0.0
    with pytest.raises(NoRewardError, match="sandbox: the node is gone"):
        required_reward(INVALID)
    with pytest.raises(NoRewardError, match="budget"):
        required_reward(Censored(budget="turns", partial=None), left_out)
