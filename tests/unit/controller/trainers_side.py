"""What a trainer does in the tests of the controller: asks, waits at a policy's side, and collects."""

import asyncio
from collections.abc import Sequence

from envfarm.core.action import Decision
from envfarm.core.episode import PolicySpec
from envfarm.core.ids import TenantId
from envfarm.core.rollout import LeasedGroup, LeaseRequest, RolloutRequest, TaskSelector
from envfarm.core.trajectory import Step
from envfarm.policies.scripted import Scripted
from envfarm.testing.small_service import SCRIPT, A, SmallService

TASKS = ("made-up/t0", "made-up/t1", "made-up/t2")
WAIT = LeaseRequest(wait_s=30.0, lease_s=600.0)


def asked(*names: str, members: int = 2, **fields: object) -> RolloutRequest:
    wanted = TaskSelector(names=names or TASKS)
    return RolloutRequest(tasks=wanted, group_size=members, policy=PolicySpec(name="nop"), **fields)


async def collected(farm: SmallService, many: int, tenant: TenantId = A) -> list[LeasedGroup]:
    """So many groups, acknowledged."""
    found: list[LeasedGroup] = []
    while len(found) < many:
        leased = await farm.service.lease_results(tenant, WAIT.model_copy(update={"limit": many - len(found)}))
        assert leased, "nothing came"
        await farm.service.acknowledge(tenant, [g.lease for g in leased])
        found += leased
    return found


class Gate(Scripted):
    """A policy that waits to be let through."""

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
        self.reached.set()
        await self.open.wait()
        return await super().next_action(instruction, history)
