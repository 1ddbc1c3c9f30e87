"""The wall clock jumps, as hosts see it, and jumps back. Their monotonic clock does not: as on machines whose time is set."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.moments import Target


def _jumps(offset_s: int) -> Callable[[Field, Target], AbstractContextManager[None]]:
    @contextmanager
    def done(field: Field, target: Target) -> Iterator[None]:
        field.set_clocks(offset_s)
        yield
        field.set_clocks(0)

    return done


FAULTS = (
    Fault("clocks an hour ahead", _jumps(3600), "all", lasts_s=8.0, needs="faketime"),
    Fault("clocks an hour behind", _jumps(-3600), "all", lasts_s=8.0, needs="faketime"),
)
