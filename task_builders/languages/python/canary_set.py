"""Canaries and their files, as a task gains them. Made by `canaries` and `unaltered_copies`."""

from collections.abc import Collection, Iterable
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


def both_ways(canaries: Iterable[Canary], fail_to_pass: Collection[str]) -> set[str]:
    """The templates that show FAIL_TO_PASS copies of both kinds."""
    kinds: dict[str, set[str]] = {}
    for one in canaries:
        kinds.setdefault(one.template, set()).update({one.kind} if one.origin in fail_to_pass else ())
    return {template for template, shown in kinds.items() if len(shown) > 1}
