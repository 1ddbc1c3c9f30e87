"""One scrape of the API tells of all hosts, of those that live and of those that were killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from envfarm.api.app import create_app
from envfarm.controller.host_processes import ProcessFleet
from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import RolloutRequest, TaskSelector
from envfarm.stores.access import SCOPES
from envfarm.stores.episode_schema import TALLIES
from envfarm.stores.tallies import ENDED
from envfarm.testing.served import served
from envfarm.testing.small_hosts import SmallHosts
from envfarm.testing.small_service import A
from tests.integration.hosts.conftest import Trainer

pytestmark = pytest.mark.slow
Samples = dict[tuple[str, ...], float]
PLAYED = ("envfarm_episode_seconds_count", "", "", "scored")
CAPACITY = 8


class Scraper:
    """Prometheus, at the API: no count may be lower than at the scrape before."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._counted: Samples = {}

    async def scrape(self) -> Samples:
        page = (await self._http.get("/metrics")).raise_for_status().text
        found: Samples = {}
        counted: Samples = {}
        for family in text_string_to_metric_families(page):
            for s in family.samples:
                (found if family.type == "gauge" else counted)[s.name, *(value for _, value in sorted(s.labels.items()))] = s.value
        assert [key for key, n in self._counted.items() if counted.get(key, 0.0) < n] == []
        self._counted = counted
        return found | counted

    async def until(self, key: tuple[str, ...], value: float) -> Samples:
        while (found := await self.scrape()).get(key) != value:  # noqa: ASYNC110 - what other processes do rings no bell of this test's
            await asyncio.sleep(0.1)
        return found


@asynccontextmanager
async def scraper(trainer: Trainer) -> AsyncIterator[Scraper]:
    token = await trainer.access.issue(A, "metrics", SCOPES)
    headers = {"Authorization": f"Bearer {token}"}
    async with served(create_app(trainer.services)) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        yield Scraper(http)


async def play(trainer: Trainer, members: int) -> None:
    wanted = TaskSelector(names=("made-up/t0",))
    await trainer.service.submit(A, RolloutRequest(tasks=wanted, group_size=members, policy=PolicySpec(name="nop")))


def told_by(trainer: Trainer) -> list[str]:
    assert trainer.engine is not None
    with trainer.engine.connect() as c:
        return list(c.scalars(select(TALLIES.c.host)))


async def test_counts_of_two_hosts_add_up_before_and_after_one_is_killed(trainer: Trainer, url: str, tmp_path: Path) -> None:
    maker = SmallHosts(home=tmp_path, database=url, episodes=CAPACITY, actions=2)
    fleet = ProcessFleet(maker)
    async with scraper(trainer) as prometheus:
        first = await fleet.start()
        await play(trainer, 5)
        await prometheus.until(PLAYED, 5)
        await fleet.start()
        await prometheus.until(("envfarm_hosts",), 2)
        await play(trainer, 6)
        both = await prometheus.until(PLAYED, 11)
        assert both["envfarm_exec_seconds_count", "", "bash"] == 22
        assert both["envfarm_capacity_episodes",] == 2 * CAPACITY
        assert len(told_by(trainer)) == 2
        os.kill(int(first.rpartition("-")[2]), signal.SIGKILL)
        one = await prometheus.until(("envfarm_hosts",), 1)
        assert (one[PLAYED], one["envfarm_capacity_episodes",]) == (11, CAPACITY)
        while ENDED not in told_by(trainer):
            await prometheus.scrape()
        await play(trainer, 3)
        assert (await prometheus.until(PLAYED, 14))["envfarm_exec_seconds_count", "", "bash"] == 28
        for host in await fleet.hosts():
            await fleet.drain(host, grace_s=0.0)
        await fleet.gone()
        assert (await prometheus.until(PLAYED, 14)).get(("envfarm_hosts",)) is None
