"""The policy that does nothing: a task must not reward it."""

from envfarm.core.action import Finish
from envfarm.policies.scripted import Scripted


def nop() -> Scripted:
    """A policy that finishes at once."""
    return Scripted((Finish(message="nothing was done"),))
