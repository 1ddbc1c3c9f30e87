"""The farm's engines, on each database: one list for all processes, in order, with keys."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from sqlalchemy import Engine

from envfarm.controller.bells import Bells
from envfarm.controller.engine_list import EngineList
from envfarm.controller.system_clock import SystemClock
from envfarm.core.engine import EngineSpec
from envfarm.stores.bell_wire import wire_of
from envfarm.stores.engines import SqlEngines
from envfarm.stores.episodes import SqlEpisodes

B = EngineSpec(name="b", kind="vllm", url="http://b", model="m", api_key="sk-\U0001f511", weight_version="7")
A = EngineSpec(name="a", kind="sglang", url="http://a", incremental=False, experts=True)


@pytest.fixture
async def kept(engine: Engine) -> SqlEngines:
    await SqlEpisodes(engine, SystemClock()).open()
    return SqlEngines(engine)


async def test_what_is_set_is_what_another_process_reads(kept: SqlEngines, opened: Callable[[], Engine]) -> None:
    elsewhere = SqlEngines(opened())
    assert await elsewhere.get() == ()
    await kept.replace([B, A])
    assert await elsewhere.get() == (B, A)
    assert (await elsewhere.get())[0].api_key.get_secret_value() == "sk-\U0001f511"
    await elsewhere.replace([A])
    assert await kept.get() == (A,)
    await kept.replace([])
    assert await elsewhere.get() == ()


class Gateway:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.lists: asyncio.Queue[Sequence[EngineSpec]] = asyncio.Queue()

    def set_engines(self, engines: Sequence[EngineSpec]) -> None:
        self.lists.put_nowait(engines)


@pytest.mark.timeout(30)
async def test_a_list_that_is_set_in_one_process_is_followed_in_another(
    kept: SqlEngines, engine: Engine, opened: Callable[[], Engine]
) -> None:
    here, there = Gateway(), Gateway()
    other = opened()
    ours, theirs = wire_of(engine), wire_of(other)
    bells, far_bells = Bells(ours.send), Bells(theirs.send)
    setter = EngineList(kept, bells, here.set_engines)
    follower = EngineList(SqlEngines(other), far_bells, there.set_engines, recheck_s=0.05 if other.dialect.name == "sqlite" else 3600)
    await kept.replace([B])  # before anybody followed
    running = [follower.run(), ours.run(bells.rung_elsewhere), theirs.run(far_bells.rung_elsewhere)]
    tasks = [asyncio.create_task(each) for each in running]
    try:
        assert await there.lists.get() == (B,)
        await setter.replace([A, B])
        assert await there.lists.get() == (A, B)
        assert here.lists.get_nowait() == (A, B)
        await setter.replace([A, B])
        await setter.replace([])
        assert await there.lists.get() == (), "the same list again is no news"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_program_that_begins_has_what_was_listed_in_another_process(kept: SqlEngines, engine: Engine) -> None:
    there = Gateway()
    follower = EngineList(kept, Bells(wire_of(engine).send), there.set_engines)
    await kept.replace([A])  # nobody rings, and nobody looks again
    await follower.refresh()
    assert there.lists.get_nowait() == (A,)
