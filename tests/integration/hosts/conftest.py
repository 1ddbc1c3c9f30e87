"""A small service without a host of its own, on either database, for hosts in other processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import LeasedGroup, LeaseRequest, RolloutRequest, TaskSelector
from envfarm.stores.sql import open_database
from envfarm.testing.small_service import A, SmallService

TASKS = 3


class Trainer(SmallService):
    """The API's process, and its client."""

    async def asks(self, members: int) -> None:
        names = tuple(f"made-up/t{n}" for n in range(TASKS))
        asked = RolloutRequest(tasks=TaskSelector(names=names), group_size=members, policy=PolicySpec(name="nop"))
        await self.service.submit(A, asked, key="one")

    async def gets(self) -> list[LeasedGroup]:
        found: list[LeasedGroup] = []
        while len(found) < TASKS:
            leased = await self.service.lease_results(A, LeaseRequest(limit=3, wait_s=20.0))
            await self.service.acknowledge(A, [g.lease for g in leased])
            found += leased
        return found


@pytest.fixture
async def trainer(url: str, tmp_path: Path) -> AsyncIterator[Trainer]:
    made = Trainer(tmp_path, engine=open_database(url))
    await made.open(tasks=TASKS)
    async with made.listening():
        yield made
    await made.close()
