"""The door is wide open to waiting: queues that are long, trainers that are slow or dead. Memory stays bounded, and nobody starves."""

import asyncio

import httpx
import pytest

from envfarm.core.episode import Budgets
from envfarm.core.outcome import Censored
from envfarm.core.rollout import EpisodeRequest, Quota
from envfarm.scheduling.admission import Amount
from envfarm.testing.small_service import A, B
from tests.integration.api.conftest import Site
from tests.integration.api.queue_pressure import ONE, press, resident_mib

MANY = 150
"""Enough to see it; `queue_pressure` by itself does it with 10,000."""
MEMORY_MIB = 300.0
"""Over what a served farm takes, whatever is queued: rollouts wait in the database, not in memory."""
pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
async def test_queued_rollouts_are_held_in_bounded_memory_and_starve_nobody(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.url, headers=site.as_tenant(site.other_token), timeout=120) as other:
        seen = await press(site.farm, site.http, other, MANY)
    assert seen.statuses == {202}
    assert seen.grown_mib < MEMORY_MIB
    assert [(r.status_code, r.json()["retryable"]) for r in seen.refusals] == [(429, True)] * 3
    assert all(int(r.headers["retry-after"]) >= 1 for r in seen.refusals)
    assert seen.served == seen.late, "the other tenant starves"
    assert seen.turns <= 24, "a tenant that comes late has every other turn"
    assert seen.pending > MANY - 100


async def test_a_trainer_that_fetches_nothing_is_told_to_and_loses_nothing(site: Site) -> None:
    await site.farm.access.add_tenant(A, Quota(unacknowledged_groups=3))
    taken, reply = [], await site.http.post("/v1/rollouts", json=ONE)
    while reply.status_code == 202:
        taken.append(reply.json()["id"])
        async for _ in site.farm.service.events(A, taken[-1]):
            pass
        reply = await site.http.post("/v1/rollouts", json=ONE)
    assert (len(taken), reply.status_code) == (3, 429)
    assert "not acknowledged" in reply.json()["detail"]
    (first,) = (await site.http.post("/v1/results/lease", json={"limit": 1, "lease_s": 0.001})).json()["groups"]
    found = (await site.http.post("/v1/results/lease", json={"limit": 9, "wait_s": 5})).json()["groups"]
    assert {g["result"]["rollout"] for g in found} == set(taken), "who died with a lease had it for its time alone"
    assert first["result"]["rollout"] in taken
    await site.http.post("/v1/results/acknowledge", json={"leases": [g["lease"] for g in found]})
    assert (await site.http.post("/v1/rollouts", json=ONE)).status_code == 202


async def test_a_trainer_that_died_in_the_middle_gives_its_box_back(site: Site) -> None:
    two = Amount(memory_mib=1e6, disk_mib=1e6, cores=64, episodes=2)
    site.farm.host._options = site.farm.host._options.model_copy(update={"capacity": two})
    short = EpisodeRequest(task="made-up/t0", budgets=Budgets(idle_s=0.2))
    dead = [await site.farm.steps.create(A, short, key=None, wait_s=10) for _ in range(2)]
    assert [view.state for view in dead] == ["ready", "ready"]
    next_one = await site.farm.steps.create(B, EpisodeRequest(task="made-up/t1"), key=None, wait_s=20)
    assert next_one.state == "ready"
    for view in dead:
        # Not by looking at the episode: that is what a trainer does who lives.
        async for _ in site.farm.service.events(A, (await site.farm.rollouts.episode(A, view.id)).spec.run_id):
            pass
    ended = [await site.farm.steps.get(A, view.id) for view in dead]
    assert [isinstance(view.outcome, Censored) and view.outcome.budget for view in ended] == ["idle", "idle"]


async def test_a_stream_that_nobody_reads_holds_up_nobody_and_takes_no_memory(site: Site) -> None:
    asked = ONE | {"group_size": 1000, "tasks": {"names": ["made-up/t0", "made-up/t1"]}}
    await site.http.post("/v1/policies/default/pause")
    rollout = (await site.http.post("/v1/rollouts", json=asked)).json()["id"]
    host, port = site.url.removeprefix("http://").split(":")
    silent = []
    for _ in range(100):
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        head = f"GET /v1/rollouts/{rollout}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.token}\r\n\r\n"
        writer.write(head.encode())
        silent.append((reader, writer))
    before = resident_mib()
    await site.http.delete(f"/v1/rollouts/{rollout}")
    other = await site.http.post("/v1/rollouts", json=ONE | {"policy_name": "other"})
    assert len((await site.http.post("/v1/results/lease", json={"wait_s": 30})).json()["groups"]) == 1
    assert other.status_code == 202
    assert resident_mib() - before < MEMORY_MIB
    for _, writer in silent:
        writer.close()
