"""An agent that is a program in the box and asks its model itself: what it is given."""

from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId


class Allowance(Frozen):
    """What an episode's program may ask of its model."""

    calls: int
    """Those that were answered, and those that could not be by the program's own fault."""
    tokens: int | None = None
    """Completion tokens of all calls. The last call is cut to what is left, once no other one may still leave some."""
    context_tokens: int = 32_768
    """Prompt and completion of one call."""
    completion_tokens: int = 8_192
    """Of one call."""
    temperature: float = 1.0
    """Of every call, whatever the program would like."""
    seed: int | None = None
    """Each call has a seed of its own, derived from this and the call's number."""


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
    """`EpisodeSpec.sampling_seed`."""
    timeout_s: float
    longest_outage_s: float
    """So much more, at the most, where its model cannot be had for so long."""
