"""The database crashes, and comes back."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.moments import Target


@contextmanager
def _restarted(field: Field, target: Target) -> Iterator[None]:
    field.postgres.restart("immediate")
    yield


FAULTS = (Fault("PostgreSQL restarted", _restarted, "all"),)
