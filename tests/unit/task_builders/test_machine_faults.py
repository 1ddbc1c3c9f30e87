"""An error that this machine is the cause of is no recipe's, however it was told on the way."""

import errno
import subprocess

import pytest

from envfarm.core.errors import BuildOutage, ImageError, SandboxError
from task_builders import machine_faults


def caused(cause: Exception) -> ImageError:
    error = ImageError("it cannot be had")
    error.__cause__ = ImageError("a layer of it cannot be had")
    error.__cause__.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "cause", [OSError(errno.ENOSPC, "full"), SandboxError("Docker could not pull"), subprocess.TimeoutExpired("dpkg", 9)], ids=repr
)
def test_the_machine_is_blamed_for(cause: Exception) -> None:
    with pytest.raises(SandboxError, match="this machine could not do it: it cannot be had"):
        machine_faults.blame(caused(cause))


def test_an_outage_stays_one_and_what_is_nobody_elses_is_left() -> None:
    with pytest.raises(BuildOutage):
        machine_faults.blame(BuildOutage("the index does not answer"))
    machine_faults.blame(caused(OSError(errno.ENOENT, "no such file")))
