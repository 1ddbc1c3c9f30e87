"""What happened in an episode, step by step, with the tokens that the policy sampled."""

from datetime import datetime
from typing import Any, Literal

from envfarm.core.action import Action
from envfarm.core.episode import EpisodeSpec
from envfarm.core.frozen import Frozen
from envfarm.core.observation import Observation
from envfarm.core.outcome import Censored, Invalid, Scored

TRAJECTORY_VERSION: Literal["envfarm-trajectory-1"] = "envfarm-trajectory-1"


class ModelCall(Frozen):
    """One request to the policy's engine. Ids and logprobs are there only where the engine gave them; nothing is re-tokenised."""

    model: str = ""
    call_id: str = ""
    """The caller's own name of it, where it has one: the step id of an episode that a trainer drives."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_ids: tuple[int, ...] | None = None
    completion_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    """One per completion id."""
    weight_version: str | None = None
    engine: str | None = None
    finish_reason: str | None = None
    text: str = ""
    """What the model said beside its tool call."""
    message: dict[str, Any] | None = None
    """The assistant's message as the engine gave it: sent back word for word, so that later prompts continue the sampled tokens."""


class Step(Frozen):
    """One action and what came of it."""

    kind: Literal["step"] = "step"
    index: int
    action: Action
    observation: Observation
    started_at: datetime
    duration_s: float
    """The action alone, without the policy's thinking."""
    think_s: float = 0.0
    cores: float | None = None
    call: ModelCall | None = None
    observation_digest: str
    """Of the observation as the box gave it: a replay that gives another one is not a replay."""


class Header(Frozen):
    """The first line of a trajectory's file."""

    kind: Literal["header"] = "header"
    schema_version: Literal["envfarm-trajectory-1"] = TRAJECTORY_VERSION
    episode: EpisodeSpec
    environment_digest: str
    instruction: str
    box: str
    """What the box was: provider and identity."""
    attempt: int = 0
    """0 for the first box; every further box of the episode starts a new file section with a new header."""
    started_because: str = ""
    """Why there is a further attempt, and whether it goes on from the recorded steps or starts again. Empty for the first."""


class End(Frozen):
    """The last line of a trajectory's file."""

    kind: Literal["end"] = "end"
    ended: Literal["finished", "truncated", "failed", "cancelled"]
    outcome: Scored | Invalid | Censored
    change: str = ""
    """The agent's change as a unified diff, for people."""
    seconds: float


class Trajectory(Frozen):
    """A whole one, read back."""

    header: Header
    steps: tuple[Step, ...] = ()
    end: End | None = None
