"""Whose doing the end of a box was."""

import pytest

from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError
from envfarm.core.sandbox import MemoryKills
from envfarm.sandboxes.box_ends import why_ended

NONE = MemoryKills(limit_bytes=256 << 20, shared=False)
OWN = NONE.model_copy(update={"killed": 1, "own_limit": 3})
FULL = NONE.model_copy(update={"killed": 1, "filled": True})
MACHINE = NONE.model_copy(update={"killed": 2})
OTHERS = NONE.model_copy(update={"killed": 7, "shared": True})
ABOVE_ITS_LIMIT = NONE.model_copy(update={"own_limit": 5, "filled": True})


@pytest.mark.parametrize(
    ("status", "kills", "error", "says"),
    [
        (2, NONE, BoxBroken, "with status 2"),
        (0, NONE, BoxBroken, "with status 0"),
        (139, NONE, BoxBroken, "with status 139"),
        (2, ABOVE_ITS_LIMIT, BoxBroken, "with status 2"),
        (2, OTHERS, BoxBroken, "with status 2"),
        (2, OWN, BoxBroken, "own memory limit of 256 MiB"),
        (137, OWN, BoxBroken, "own memory limit of 256 MiB"),
        (137, FULL, BoxBroken, "own memory limit of 256 MiB"),
        (137, MACHINE, BoxLost, "the machine ran out of memory"),
        (2, MACHINE, BoxLost, "the machine ran out of memory"),
        (137, NONE, BoxLost, "killed from outside"),
        (137, OTHERS, BoxLost, "killed from outside"),
        (-9, OWN, BoxLost, "ended from outside .signal 9"),
        (-15, NONE, BoxLost, "ended from outside .signal 15"),
    ],
)
def test_the_box_is_blamed_for_what_nothing_outside_did(status: int, kills: MemoryKills, error: type[EnvfarmError], says: str) -> None:
    with pytest.raises(error, match=says) as told:
        raise why_ended(status, kills)
    assert type(told.value) is error
