"""Whether this machine, and not what is built on it, is why something cannot be built. Asked by the stages before each candidate, and by
whoever would otherwise blame a recipe: a full disk or an index that is down must never become a rejection, which is for ever.
"""

import errno
import shutil
from pathlib import Path
from subprocess import SubprocessError

from envfarm.core.errors import BuildOutage, ImageError, SandboxError, StoreError

NEEDED_MIB = 1024
"""Free before a candidate is begun: an interpreter, a layer of dependencies and the boxes of one candidate take some hundred MiB."""
HOST_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}
)


def check(directory: Path) -> None:
    """Raises `StoreError` where the disk is so full that building would fail half-way."""
    try:
        free_mib = shutil.disk_usage(directory).free >> 20
    except OSError as e:
        raise StoreError(f"{directory} cannot be used: {e.strerror}") from e
    if free_mib < NEEDED_MIB:
        raise StoreError(
            f"the disk of {directory} is nearly full: {free_mib} MiB are free, and minting needs {NEEDED_MIB}",
            hint="free some space there, or move ENVFARM_HOME; then run the same command again: finished work is kept",
        )


def blame(error: ImageError) -> None:
    """Raises an outage as it is, and `SandboxError` for what came of this machine: its system calls, its own programs, its boxes."""
    if isinstance(error, BuildOutage):
        raise error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SandboxError | SubprocessError) or (isinstance(cause, OSError) and cause.errno in HOST_FAULTS):
            raise SandboxError(f"this machine could not do it: {error}", hint="fix the cause and run the same command again") from error
        cause = cause.__cause__
