"""The whole service on every database, and on a PostgreSQL that is restarted under it."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Engine

from envfarm.core.episode import PolicySpec
from envfarm.core.errors import StoreError
from envfarm.core.rollout import LeasedGroup, LeaseRequest, RolloutRequest, TaskSelector
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.stores.sql import BUSY_MS, open_database
from envfarm.testing import postgres
from envfarm.testing.scripted_box import ScriptedBox
from envfarm.testing.small_service import A, SmallService, echo

NAMES = ("made-up/t0", "made-up/t1", "made-up/t2")
REQUEST = RolloutRequest(tasks=TaskSelector(names=NAMES), group_size=4, policy=PolicySpec(name="nop"))


async def all_groups(farm: SmallService) -> list[LeasedGroup]:
    found: list[LeasedGroup] = []
    while len(found) < len(NAMES):
        try:
            leased = await farm.service.lease_results(A, LeaseRequest(limit=3, wait_s=20.0))
            await farm.service.acknowledge(A, [g.lease for g in leased])
        except StoreError:
            continue  # as a client does
        found += leased
    return found


async def test_a_service_plays_on_every_database(engine: Engine, tmp_path: Path) -> None:
    farm = SmallService(tmp_path, engine=engine)
    await farm.open()
    async with farm.playing():
        await farm.service.submit(A, REQUEST)
        groups = await all_groups(farm)
    assert all(g.result.complete and len(g.result.members) == 4 for g in groups)
    await farm.close()


@pytest.mark.postgresql
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_database_that_is_restarted_loses_nothing(engine: Engine, tmp_path: Path, cluster: postgres.Cluster) -> None:
    farm = SmallService(tmp_path, engine=engine)
    acted = 0

    async def restarting(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        nonlocal acted
        acted += 1
        if acted == 3:
            await asyncio.to_thread(cluster.restart)
        return await echo(box, request)

    farm.provider.answer = restarting
    await farm.open()
    async with farm.playing():
        await farm.service.submit(A, REQUEST)
        groups = await all_groups(farm)
    assert sorted(m.outcome.kind for g in groups for m in g.result.members) == ["scored"] * 12
    assert len({g.result.group for g in groups}) == 3
    await farm.close()


@pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_a_transaction_that_sleeps_is_ended_by_the_server(url: str) -> None:
    engine = open_database(url)
    with engine.connect() as c:
        assert c.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar() == f"{BUSY_MS // 1000}s"
    engine.dispose()
