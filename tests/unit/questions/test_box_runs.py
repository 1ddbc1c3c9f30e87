"""A trial's programs, and a machine that has no memory left for one of them."""

import pytest

from envfarm.core.errors import BoxLost
from envfarm.core.sandbox import ExecRequest, ExecResult, MemoryKills
from task_builders.questions.box_runs import Metered


class Box:
    """One whose commands end with this status, while the machine kills something in it."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.killed = 0

    def memory_kills(self) -> MemoryKills:
        return MemoryKills(killed=self.killed, shared=False, limit_bytes=1 << 30)

    async def put(self, archive: bytes, *, dest: str) -> None: ...

    async def exec(self, request: ExecRequest) -> ExecResult:
        assert request.shell
        self.killed += 1
        return ExecResult(exit_code=self.status)


@pytest.mark.parametrize("status", [1, 137])
async def test_a_machine_without_memory_says_nothing_of_a_program(status: int) -> None:
    with pytest.raises(BoxLost, match="ran out of memory"):
        await Metered(Box(status), 60.0).exec(ExecRequest(shell="sort x"))


async def test_what_goes_well_was_not_killed() -> None:
    assert (await Metered(Box(0), 60.0).exec(ExecRequest(shell="sort x"))).ok
