"""What a build cost, for the cost ledger and for people. Returned beside the environment by the builders of this room."""

from typing import NamedTuple

from envfarm.core.frozen import Frozen
from envfarm.core.image import Environment


class BuildFacts(Frozen):
    """Seconds and bytes of one build; what was found made already cost nothing but the look."""

    layer_reused: bool
    """Whether the shared layer was there."""
    layer_s: float
    """Making the shared layer, or waiting for another process that made it."""
    layer_bytes: int
    """Of the shared layer, unpacked."""
    checkout_reused: bool = False
    """Whether these project steps had been run on this checkout before."""
    checkout_s: float = 0.0
    """The project's own steps."""
    checkout_bytes: int = 0
    """Of the environment's own checkout blob; 0 without a checkout."""


class Built(NamedTuple):
    """An environment and what it cost."""

    environment: Environment
    facts: BuildFacts
