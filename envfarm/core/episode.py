"""What an episode is asked to be."""

import hashlib
from typing import Any

from pydantic import Field

from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, EpisodeId, RunId, TaskDigest

MONTH_S = 30 * 86400.0
SEEDS = 2**31
"""Seeds are below it: some engines take no larger ones."""


class Budgets(Frozen):
    """Where an episode is cut. Going over one gives `Censored`, not zero."""

    turns: int = Field(default=100, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    """Completion tokens over all turns, where the policy tells them."""
    seconds: float = Field(default=3600.0, gt=0, le=MONTH_S)
    """Wall time from the box's start to the end of the agent's last action."""
    idle_s: float = Field(default=600.0, gt=0, le=MONTH_S)
    """Of a step-driven episode: how long it waits for its trainer's next call before it is taken for left. Others have no such end."""
    action_s: float = Field(default=600.0, gt=0, le=MONTH_S)
    """The longest that one action may take."""
    observation_chars: int = Field(default=30_000, ge=1)
    """Longer observations lose their middle."""


class PolicySpec(Frozen):
    """Which policy plays, by name, with its options (`gold`, `nop`, `scripted`, `openai_chat`, `program`)."""

    name: str
    options: dict[str, Any] = {}


class Branch(Frozen):
    """Where a fork goes on: behind the first steps of another episode."""

    episode: EpisodeId
    turns: int
    record: Digest
    """`trajectory.record_digest` of those steps: another record is another past."""


class EpisodeSpec(Frozen):
    """One episode of a run's group."""

    episode_id: EpisodeId
    run_id: RunId
    task: TaskDigest
    member: int
    """The episode's place in its group (all episodes of one task in one run)."""
    policy: PolicySpec
    budgets: Budgets = Budgets()
    seed: int = 0
    """What `sampling_seed` is derived from."""
    sandbox: str = "local"
    branch: Branch | None = None
    """Of a fork."""
    traceparent: str = ""
    """The trace that it is part of (W3C trace context); whoever plays it goes on with it. Empty where nobody traces."""

    @property
    def sampling_seed(self) -> int:
        """What its model's calls draw their seeds from. Equal for the same task, member and `seed`, and for nothing else."""
        return derived_seed(self.seed, self.task, self.member, below=2**63)


def derived_seed(*words: int | str, below: int = SEEDS) -> int:
    """A seed for what these words name: a hash, so that neighbours (the next member, the next call) share nothing."""
    named = hashlib.sha256("\0".join(map(str, words)).encode())
    return int.from_bytes(named.digest()[:16]) % below
