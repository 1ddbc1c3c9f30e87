"""All of Ray is killed: its head, its nodes, and with them the hosts. A person starts it again, and the driver."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.moments import Target


@contextmanager
def _killed(field: Field, target: Target) -> Iterator[None]:
    assert field.ray is not None
    field.killed_makers += len(field.hosts())
    field.ray.kill()
    field.driver.kill()
    yield
    field.ray.start()
    field.driver.start()


FAULTS = (Fault("Ray killed", _killed, "all", lasts_s=2.0, needs="ray"),)
