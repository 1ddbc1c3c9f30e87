"""What a host says, at each renewal of its lease, that its process counted: what the farm's metrics are made of.

Whoever ends a lease keeps what was last said under it. A host that slept past its lease says under the next one only what came since, so
that nothing counts twice. What it counted between two renewals may be lost then.
"""

from collections.abc import Callable

from envfarm.core.tally import NOTHING, Tally


class HostTally:
    """What one host says. Nothing, where nobody counts."""

    def __init__(self, counted: Callable[[], Tally]) -> None:
        """`counted` tells what this process counted since it began."""
        self._counted = counted
        self._said = self._before = NOTHING
        self._heard = True

    def to_say(self) -> Tally:
        """What the lease's row is to say. Until it was heard it stays the same: it may have been stored though no answer came."""
        if self._heard:
            self._said, self._heard = self._counted(), False
        return self._said.since(self._before)

    def heard(self) -> None:
        """It is known to be stored."""
        self._heard = True

    def last(self) -> Tally:
        """What is to be said as the lease is given up, whatever was heard."""
        self._heard = True
        return self.to_say()

    def next_lease(self) -> None:
        """Another lease begins: all that was said, heard or not, was said under earlier ones."""
        self._before, self._heard = self._said, True
