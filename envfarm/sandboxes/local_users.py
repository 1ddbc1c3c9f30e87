"""A host uid for every box of a farm that runs as root. No two live boxes of one machine share one."""

import fcntl
import os
import random
from pathlib import Path
from typing import NamedTuple

from envfarm.core.errors import SandboxError

LEASES = Path("/run/envfarm-users")
"""One file per uid, locked while a box has the uid, by any farm on this machine."""
PREFERRED = range(1_900_000_000, 1_900_065_536)
"""Between the ids that other programs' containers use and the end of 31 bits: used by nobody."""
FALLBACK = range(20_000, 60_000)
"""For a user namespace of 65,536 ids, as rootless containers have."""
TRIES = 100


class UserLease(NamedTuple):
    """A uid, and a gid of the same number, held while the descriptor (or a copy of it) is open."""

    uid: int
    fd: int


def lease() -> UserLease:
    """Lease a free uid. Raises `SandboxError` if there is none."""
    LEASES.mkdir(mode=0o700, exist_ok=True)
    ids = _mapped_range()
    for _ in range(TRIES):
        uid = random.choice(ids)  # noqa: S311 - not a secret
        fd = os.open(LEASES / str(uid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return UserLease(uid, fd)
    raise SandboxError(f"no free uid between {ids.start} and {ids.stop}", hint="boxes of other farms hold them")


def _mapped_range() -> range:
    """The first of the two ranges whose ids exist in this user namespace."""
    mapped = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    for wanted in (PREFERRED, FALLBACK):
        if any(first <= wanted.start and wanted.stop <= first + count for first, _, count in mapped):
            return wanted
    raise SandboxError(
        "this user namespace has too few uids to give each box its own", hint="run the farm as an ordinary user, or as the machine's root"
    )
