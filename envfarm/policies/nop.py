"""The policy that does nothing: what it scores, nobody earned."""

from envfarm.core.action import Finish
from envfarm.policies.scripted import Scripted


def nop() -> Scripted:
    """Finishes at once."""
    return Scripted((Finish(message="nothing was done"),))
