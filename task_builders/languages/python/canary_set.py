"""Canaries and their files, as a task gains them. Made by `canaries` and `unaltered_copies`."""

from dataclasses import dataclass

from envfarm.core.plan import Canary


@dataclass(frozen=True)
class CanarySet:
    """What a plan and its sealed files gain."""

    canaries: tuple[Canary, ...]
    templates: dict[str, bytes]
    """By name, as they go under `tests/canaries/`."""
    notes: tuple[str, ...] = ()
    """What could not be had, for the task's report."""
