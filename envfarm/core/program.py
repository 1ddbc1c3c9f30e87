"""An agent that is a program in the box and asks its model itself: what it is given."""

from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId


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
    """Of its model, the most."""
    tokens: int | None
    """Completion tokens of them all, the most."""
    seed: int
    timeout_s: float
    longest_outage_s: float
    """So much more, at the most, where its model cannot be had for so long."""
