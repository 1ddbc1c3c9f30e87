"""Hosts in plain processes over one database: killed, stopped past their lease, drained, called off."""

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine

from envfarm.controller.host_driver import HostDriver
from envfarm.controller.host_processes import ProcessFleet
from envfarm.controller.system_clock import SystemClock
from envfarm.core.action import Bash
from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import EpisodeRequest, LeaseRequest, RolloutRequest, StepRequest, TaskSelector
from envfarm.scheduling.host_count import Scale
from envfarm.stores.rollout_queue import Share
from envfarm.stores.sql import open_database
from envfarm.testing.small_hosts import OTHERS, SmallHosts
from envfarm.testing.small_service import A, SmallService
from tests.integration.hosts.conftest import TASKS, Trainer
from tests.integration.hosts.truth import check_exactly_once, deaths, hosts_that_hold

pytestmark = pytest.mark.slow
MEMBERS, ACTIONS = 4, 4


@asynccontextmanager
async def driven(trainer: Trainer, maker: SmallHosts, count: int = 2) -> AsyncIterator[tuple[HostDriver, ProcessFleet]]:
    fleet = ProcessFleet(maker)
    scale = Scale(least=count, most=count, per_host=maker.episodes)
    driver = HostDriver(fleet, scale, lambda: trainer.queue.load(OTHERS), SystemClock(), recheck_s=0.5)
    driving = asyncio.create_task(driver.run())
    try:
        yield driver, fleet
        if driving.done():
            driving.result()
    finally:
        driving.cancel()
        with suppress(asyncio.CancelledError):
            await driving
        await driver.stop(grace_s=0.0)


def pid(host: str) -> int:
    return int(host.rpartition("-")[2])


async def playing(trainer: Trainer, many: int) -> None:
    while (await trainer.queue.load(OTHERS)).playing < many:  # noqa: ASYNC110 - what other processes do rings no bell of this test's
        await asyncio.sleep(0.02)


def stop_between_writes(process: int, engine: Engine) -> None:
    """Stop a process where it does not hold SQLite's one lock, without which nobody takes a lease over (docs/hosts.md)."""
    os.kill(process, signal.SIGSTOP)
    if engine.dialect.name != "sqlite":
        return
    while True:
        with closing(sqlite3.connect(str(engine.url.database), timeout=0.2, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                os.kill(process, signal.SIGCONT)
                time.sleep(0.05)
                os.kill(process, signal.SIGSTOP)
            else:
                return


async def test_a_host_that_is_killed_or_sleeps_past_its_lease_loses_nothing(trainer: Trainer, url: str, tmp_path: Path) -> None:
    maker = SmallHosts(home=tmp_path, database=url, episodes=6, actions=ACTIONS, action_s=0.6)
    assert trainer.engine is not None
    async with driven(trainer, maker) as (_, fleet):
        while hosts_that_hold(trainer.engine) < 2:  # noqa: ASYNC110 - else one could end what it plays before the other begins
            await asyncio.sleep(0.02)
        await trainer.asks(MEMBERS)
        await playing(trainer, TASKS * MEMBERS)
        killed, sleeper = await fleet.hosts()
        os.kill(pid(killed), signal.SIGKILL)
        await asyncio.to_thread(stop_between_writes, pid(sleeper), trainer.engine)
        groups = await trainer.gets()
        os.kill(pid(sleeper), signal.SIGCONT)
    assert all(g.result.complete and len(g.result.members) == MEMBERS for g in groups)
    await check_exactly_once(trainer.engine, tmp_path, episodes=TASKS * MEMBERS, actions=ACTIONS)
    assert deaths(trainer.engine) >= TASKS * MEMBERS
    assert hosts_that_hold(trainer.engine) == 0, "who is stopped in good order drops its lease"
    assert list((tmp_path / "owners").glob("*.lock")) == []


async def test_hosts_of_a_driver_that_is_gone_let_go(trainer: Trainer, url: str, tmp_path: Path) -> None:
    maker = SmallHosts(home=tmp_path, database=url, actions=ACTIONS, action_s=0.3)
    fleet = ProcessFleet(maker)
    await fleet.start()
    await trainer.asks(MEMBERS)
    await playing(trainer, 1)
    (process,) = fleet._processes.values()
    assert process.stdin is not None
    process.stdin.close()  # all that a dead driver leaves
    await fleet.gone()
    assert process.returncode == 0
    async with driven(trainer, maker):
        await trainer.gets()
    assert trainer.engine is not None
    await check_exactly_once(trainer.engine, tmp_path, episodes=TASKS * MEMBERS, actions=ACTIONS)
    assert deaths(trainer.engine) == 0, "let go of in good order"


async def test_an_upgrade_ends_no_episode(trainer: Trainer, url: str, tmp_path: Path) -> None:
    maker = SmallHosts(home=tmp_path, database=url, episodes=4, actions=ACTIONS, action_s=0.2)
    async with driven(trainer, maker, count=1) as (_, fleet):
        await trainer.asks(MEMBERS)
        await playing(trainer, 4)
        async with driven(trainer, maker, count=1):
            (host,) = await fleet.hosts()
            await fleet.drain(host, grace_s=float("inf"))
            await trainer.gets()
    assert trainer.engine is not None
    await check_exactly_once(trainer.engine, tmp_path, episodes=TASKS * MEMBERS, actions=ACTIONS)
    with trainer.engine.connect() as c:
        began = c.exec_driver_sql("SELECT count(*) FROM events WHERE kind = 'started'").scalar()
    assert began == TASKS * MEMBERS, "each was begun once: the old host played what it had to its end"


async def test_a_drain_that_is_cut_short_hands_over(trainer: Trainer, url: str, tmp_path: Path) -> None:
    slow = SmallHosts(home=tmp_path, database=url, actions=ACTIONS, action_s=3600.0, lease_s=60.0)
    fleet = ProcessFleet(slow)
    driver = HostDriver(fleet, Scale(least=1, most=1, per_host=slow.episodes), lambda: trainer.queue.load(OTHERS), SystemClock())
    host = await fleet.start()
    await trainer.asks(MEMBERS)
    await playing(trainer, 1)
    await fleet.drain(host, grace_s=float("inf"))
    await driver.stop(grace_s=0.0)
    async with driven(trainer, slow.model_copy(update={"action_s": 0.0})):
        await trainer.gets()
    assert trainer.engine is not None
    assert deaths(trainer.engine) == 0
    await check_exactly_once(trainer.engine, tmp_path, episodes=TASKS * MEMBERS, actions=ACTIONS)


@pytest.mark.parametrize("url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
async def test_what_is_called_off_is_let_go_of_elsewhere_before_anybody_looks_again(trainer: Trainer, url: str, tmp_path: Path) -> None:
    maker = SmallHosts(home=tmp_path, database=url, actions=1, action_s=3600.0, lease_s=600.0)
    names = ("made-up/t0",)
    async with driven(trainer, maker, count=1):
        asked = await trainer.service.submit(
            A, RolloutRequest(tasks=TaskSelector(names=names), group_size=3, policy=PolicySpec(name="nop"))
        )
        await playing(trainer, 3)
        episodes = [row.spec.episode_id for _, row in await trainer.rollouts.episodes(A, asked.id, after=-1, limit=9)]
        await trainer.service.cancel(A, asked.id)
        # The host's next beat is minutes away: what ends these journals before the test's time is the ring alone.
        for episode in episodes:
            while (told := await trainer.trajectories.last(episode)) is None or told.end is None:  # noqa: ASYNC110 - see `playing`
                await asyncio.sleep(0.02)
    assert trainer.engine is not None
    with trainer.engine.connect() as c:
        assert c.exec_driver_sql("SELECT count(*) FROM episodes WHERE state = 'cancelled'").scalar() == 3


async def test_what_a_trainer_drives_is_played_beside_the_api_and_nowhere_else(url: str, tmp_path: Path) -> None:
    api = SmallService(tmp_path, engine=open_database(url), share=Share(only=frozenset({"trainer"})))
    await api.open()
    async with api.playing():
        others = Trainer(tmp_path, engine=open_database(url))
        async with driven(others, SmallHosts(home=tmp_path, database=url), count=1):
            await api.service.submit(
                A, RolloutRequest(tasks=TaskSelector(names=("made-up/t1",)), group_size=2, policy=PolicySpec(name="nop"))
            )
            episode = await api.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=20.0)
            assert episode.state == "ready"
            step = await api.steps.step(A, episode.id, StepRequest(step_id="1", action=Bash(command="hello")), wait_s=20.0)
            assert step.observation is not None
            assert "hello" in step.observation.text
            assert await api.service.lease_results(A, LeaseRequest(wait_s=20.0))
        await others.close()
    assert api.played == [episode.id]
    await api.close()
