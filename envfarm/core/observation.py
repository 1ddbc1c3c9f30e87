"""What the policy sees of an action's result."""

from envfarm.core.frozen import Frozen


class Observation(Frozen):
    """The text that goes back to the policy, already cut to the episode's limit, and facts beside it."""

    text: str
    exit_code: int | None = None
    timed_out: bool = False
    truncated: bool = False
    """Whether `text` lost its middle."""
    is_error: bool = False
    """The action could not be carried out as asked (no such file, ambiguous text): the model's to mend."""
