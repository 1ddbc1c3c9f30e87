"""Named places where a crash would hurt most, so that tests can put one there.

What writes, commits or builds takes a `FaultPoints` in its constructor and reaches a point in one line. In a farm it is `NO_FAULTS`;
a chaos test hands over one that fails, stalls or ends the process. Production code holds no other trace of it.
"""

from typing import Literal, Protocol

FaultPoint = Literal[
    "journal write",
    "outcome commit",
    "box create",
    "layer build",
    "rollout submit",
    "episode claim",
    "result lease",
    "acknowledge",
]


class FaultPoints(Protocol):
    """Told each time that a named place is reached."""

    def reach(self, point: FaultPoint) -> None:
        """Called just before the place's effect. A farm's own does nothing."""
        ...


class NoFaults:
    """What a farm runs with."""

    def reach(self, point: FaultPoint) -> None:
        """Nothing happens."""


NO_FAULTS = NoFaults()
