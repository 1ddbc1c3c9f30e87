"""When a policy is given up."""

import pytest

from envfarm.controller.refusals import Refusals
from envfarm.core.episode import PolicySpec
from envfarm.core.outcome import Invalid, Outcome
from envfarm.testing.factories import make_scored

CHAT = PolicySpec(name="openai_chat", options={"model": "m"})
BAD_KEY = Invalid("policy", retryable=False, detail="status 401: bad key")
OTHER = Invalid("policy", retryable=False, detail="status 400: this prompt")
DOWN = Invalid("policy", retryable=True, detail="no answer")
BROKEN = Invalid("task", retryable=False, detail="damaged")


@pytest.mark.parametrize(
    ("outcomes", "given_up"),
    [
        ([BAD_KEY] * 2, False),
        ([BAD_KEY] * 3, True),
        ([BAD_KEY] * 9, True),
        ([make_scored(0.0), *[BAD_KEY] * 9], False),
        ([BAD_KEY, BAD_KEY, make_scored(1.0), *[BAD_KEY] * 9], False),
        ([BAD_KEY, OTHER, BAD_KEY, BAD_KEY], False),
        ([DOWN] * 9, False),
        ([BROKEN] * 9, False),
    ],
)
def test_a_policy_is_given_up_when_its_first_episodes_all_ended_by_the_same_refusal(outcomes: list[Outcome], *, given_up: bool) -> None:
    refusals = Refusals(3)
    for outcome in outcomes:
        refusals.learn(CHAT, outcome)
    assert refusals.gave_up(CHAT) == given_up
    assert not refusals.gave_up(CHAT.model_copy(update={"options": {"model": "n"}}))
