"""An agent that is a program in the box and asks its model itself: what it is given, and what came of it."""

from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId
from envfarm.core.sampled import Sampled
from envfarm.core.sandbox import ExecResult


class Allowance(Frozen):
    """What an episode's program may ask of its model."""

    calls: int
    tokens: int | None = None
    """Completion tokens of all calls."""
    context_tokens: int = 32_768
    completion_tokens: int = 8_192
    temperature: float = 1.0
    seed: int | None = None


class Part(Frozen):
    """One run of a program."""

    episode: EpisodeId
    instruction: str
    work_dir: str
    calls: int
    tokens: int | None
    seed: int
    timeout_s: float


class Played(Frozen):
    """What came of it."""

    result: ExecResult
    sampled: Sampled
