"""The stores of one database, as one process has them, for the tests of what several do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import Connection, Engine, func, select, text

from envfarm.core import digest
from envfarm.core.episode import PolicySpec
from envfarm.core.ids import TaskDigest, TenantId
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import RolloutRequest, TaskSelector
from envfarm.stores.access import SqlAccess
from envfarm.stores.episodes import Claim, SqlEpisodes
from envfarm.stores.leases import HostLease, SqlLeases
from envfarm.stores.policy_versions import SqlPolicies
from envfarm.stores.rollout_queue import SqlRolloutQueue
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollout_rows import lock_rollout
from envfarm.stores.rollouts import Asked, NewRollout, SqlRollouts
from envfarm.testing.factories import HeldClock, make_scored, make_spec

A, B = TenantId("a"), TenantId("b")
DOWN = Invalid("policy", retryable=True, detail="down")
MANY = 10_000
NOBODY = HostLease(host="nobody", epoch=0)


@dataclass
class Stores:
    """All stores of one database, as one process has them."""

    engine: Engine
    lease: HostLease = NOBODY

    def __post_init__(self) -> None:
        clock = HeldClock()
        self.episodes = SqlEpisodes(self.engine, clock)
        self.rollouts = SqlRollouts(self.engine, clock)
        self.queue = SqlRolloutQueue(self.engine, clock)
        self.results = SqlRolloutResults(self.engine)
        self.policies = SqlPolicies(self.engine, clock)
        self.leases = SqlLeases(self.engine)
        self.access = SqlAccess(self.engine, clock)

    async def ask(self, name: str = "r", *, tenant: TenantId = A, tasks: int = 1, members: int = 2, **fields: object) -> Asked:
        key = fields.pop("key", None)
        most = fields.pop("most", MANY)
        kind = fields.pop("kind", "rollout")
        request = RolloutRequest(tasks=TaskSelector(), policy=PolicySpec(name="nop"), group_size=members, **fields)
        digests = [TaskDigest(digest.of_bytes(bytes([n]))) for n in range(tasks)]
        specs = tuple(make_spec(m, run=name, task=t) for t in digests for m in range(members))
        asked = digest.of_json(request.model_dump(mode="json"))
        new = NewRollout.model_validate(
            {"id": name, "tenant": tenant, "kind": kind, "key": key, "asked": asked, "request": request, "specs": specs}
        )
        return await self.rollouts.add(new, most_unfinished=most)  # type: ignore[arg-type]

    async def take(self, many: int = 100, lease: HostLease | None = None) -> list[Claim]:
        waiting = await self.queue.waiting(each=many)
        return list((await self.queue.claim(lease or self.lease, [w.episode for w in waiting][:many])).claims)

    async def play(self, *claims: Claim, reward: float = 1.0) -> None:
        for claim in claims:
            assert await self.queue.settle(claim, make_scored(reward))

    def count(self, *where: object) -> int:
        with self.engine.connect() as c:
            return c.execute(select(func.count()).where(*where)).scalar_one()  # type: ignore[arg-type]


@asynccontextmanager
async def waiting_claim(farm: Stores, opened: Callable[[], Engine]) -> AsyncIterator[tuple[asyncio.Task[list[Claim]], Connection]]:
    """A claim of rollout `r`, which another process has locked until the block ends, and a connection to look on by. PostgreSQL alone."""
    if farm.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer: there every one waits for every other")
    await farm.ask()
    with opened().begin() as another:
        assert lock_rollout(another, "r") is not None
        claiming = asyncio.create_task(farm.take())
        with opened().connect().execution_options(isolation_level="AUTOCOMMIT") as looking:
            await until_waiting(looking, 1)
            yield claiming, looking


async def until_waiting(looking: Connection, many: int) -> None:
    """Until so many transactions of this PostgreSQL wait for locks of others."""
    waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    while looking.scalar(waits) != many:  # noqa: ASYNC110 - the database tells nobody
        await asyncio.sleep(0.01)
