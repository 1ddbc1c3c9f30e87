"""Canaries and their files, as a task receives them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from envfarm.core.plan import Canary


@dataclass(frozen=True)
class CanarySet:
    """Additions to a plan and its sealed files."""

    canaries: tuple[Canary, ...]
    templates: dict[str, bytes]
    """By file name, for `tests/canaries/`."""
    notes: tuple[str, ...] = ()
    """What could not be made, for the task's report."""


def both_ways(canaries: Iterable[Canary], fail_to_pass: Collection[str]) -> set[str]:
    """The templates that contain FAIL_TO_PASS copies of both kinds."""
    kinds: dict[str, set[str]] = {}
    for one in canaries:
        kinds.setdefault(one.template, set()).update({one.kind} if one.origin in fail_to_pass else ())
    return {template for template, shown in kinds.items() if len(shown) > 1}
