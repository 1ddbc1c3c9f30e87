"""Policies whose endpoint refuses every episode alike (a wrong key, an unknown model): no further one is worth its box.

Asked by the local pool. Pure: it knows what it was told in this process.
"""

from typing import NamedTuple

from envfarm.core.episode import PolicySpec
from envfarm.core.errors import Cause
from envfarm.core.outcome import Invalid, Outcome


class GivenUp(NamedTuple):
    """A policy of which no further episode is begun."""

    policy: PolicySpec
    why: str
    """The refusal, in the endpoint's words."""


class Refusals:
    """What the first episodes of each policy came to."""

    def __init__(self, enough: int) -> None:
        """A policy is given up when so many of its episodes have ended, and all of them by the same refusal."""
        self._enough = enough
        self._ended: dict[str, int] = {}
        self._refusal: dict[str, str | None] = {}
        """Of those that ended; None where one ended otherwise, and for good."""
        self.given_up: dict[str, GivenUp] = {}

    def gave_up(self, policy: PolicySpec) -> bool:
        """Whether no further episode of it is to be begun."""
        return policy.model_dump_json() in self.given_up

    def learn(self, policy: PolicySpec, outcome: Outcome) -> None:
        """An episode of it ended."""
        key, refusal = policy.model_dump_json(), _refusal(outcome)
        self._ended[key] = self._ended.get(key, 0) + 1
        if self._refusal.setdefault(key, refusal) != refusal:
            self._refusal[key] = None
        if self._ended[key] >= self._enough and (same := self._refusal[key]) is not None:
            self.given_up[key] = GivenUp(policy, same)


def _refusal(outcome: Outcome) -> str | None:
    match outcome:
        case Invalid(cause=Cause.POLICY.value, retryable=False, detail=detail):
            return detail
        case _:
            return None
