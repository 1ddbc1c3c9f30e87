"""The farm's own processes are killed, or stopped for longer than others wait for them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import HOST_LEASE_S, Field
from tests.chaos.cluster.moments import Target


@contextmanager
def _host_killed(field: Field, target: Target) -> Iterator[None]:
    with suppress(ProcessLookupError):
        os.kill(target.host, signal.SIGKILL)  # its driver starts another
        field.killed_makers += 1
    yield


@contextmanager
def _host_stopped(field: Field, target: Target) -> Iterator[None]:
    with suppress(ProcessLookupError):
        os.kill(target.host, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(target.host, signal.SIGCONT)


@contextmanager
def _driver_killed(field: Field, target: Target) -> Iterator[None]:
    field.driver.kill()
    yield
    field.driver.start()


@contextmanager
def _api_killed(field: Field, target: Target) -> Iterator[None]:
    field.api.kill()
    field.killed_makers += 1
    yield
    field.api.start()


FAULTS = (
    Fault("host killed", _host_killed, "host"),
    Fault("host stopped past its lease", _host_stopped, "host", lasts_s=HOST_LEASE_S * 2.5),
    Fault("driver killed", _driver_killed, "all", lasts_s=1.0),
    Fault("API killed", _api_killed, "all", lasts_s=2.0),
)
