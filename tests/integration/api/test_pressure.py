"""The door is wide open to waiting: queues that are long, trainers that are slow or dead. Memory stays bounded, and nobody starves."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from envfarm.core.episode import Budgets, EpisodeSpec
from envfarm.core.outcome import Censored
from envfarm.core.rollout import EpisodeRequest, Quota, RolloutRequest
from envfarm.core.trajectory import Step
from envfarm.policies.scripted import Choice, Scripted
from envfarm.scheduling.admission import Amount
from envfarm.stores.rollouts import NewRollout
from envfarm.testing.factories import make_spec
from envfarm.testing.small_service import SCRIPT, A, B, SmallService
from tests.integration.api.conftest import Site

ONE: dict[str, Any] = {"tasks": {"names": ["made-up/t0"]}, "group_size": 1, "policy": {"name": "nop"}}
MANY, AT_ONCE = 300, 16
MEMORY_MIB = 300.0
"""Over what a served farm takes, whatever is queued: rollouts wait in the database, not in memory."""
pytestmark = pytest.mark.slow


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class Turnstile:
    """Policies that go on one by one, so that a queue stands for as long as the test looks at it."""

    def __init__(self) -> None:
        self.started: list[EpisodeSpec] = []
        self._through = asyncio.Semaphore(0)

    def let(self, many: int) -> None:
        for _ in range(many):
            self._through.release()

    def __call__(self, spec: EpisodeSpec) -> Scripted:
        self.started.append(spec)
        through = self._through

        class Waits(Scripted):
            async def next_action(self, instruction: str, history: Sequence[Step]) -> Choice:
                if not history:
                    await through.acquire()
                return await super().next_action(instruction, history)

        return Waits(SCRIPT)


async def queued(farm: SmallService, many: int) -> None:
    """So many rollouts as the service would keep them, in one transaction: requests for all of them would say no more, and take minutes."""
    (row,) = [row for row in await farm.catalogue.rows() if row.name == "made-up/t0"]
    request = RolloutRequest.model_validate(ONE)
    specs = [make_spec(0, run=f"rollout-{n}", task=row.digest, policy=request.policy) for n in range(many)]
    kept = {"tenant": A, "kind": "rollout", "key": None, "asked": "", "request": request}
    new = [NewRollout.model_validate({"id": spec.run_id, "specs": (spec,), **kept}) for spec in specs]
    await farm.rollouts._sql.write("fill", lambda c: [farm.rollouts._add(c, one, MANY) for one in new])


@pytest.mark.timeout(900)
async def test_queued_rollouts_are_held_in_bounded_memory_and_starve_nobody(site: Site) -> None:
    gate = Turnstile()
    site.farm.policy = gate
    await site.farm.access.add_tenant(A, Quota(unfinished_episodes=MANY))
    before = resident_mib()
    await queued(site.farm, MANY - AT_ONCE)
    replies = await asyncio.gather(*(site.http.post("/v1/rollouts", json=ONE) for _ in range(AT_ONCE)))
    assert {r.status_code for r in replies} == {202}
    grown = resident_mib() - before
    assert grown < MEMORY_MIB
    full = [await site.http.post("/v1/rollouts", json=ONE) for _ in range(3)]
    assert [(r.status_code, r.json()["retryable"]) for r in full] == [(429, True)] * 3
    assert all(int(r.headers["retry-after"]) >= 1 for r in full)
    async with httpx.AsyncClient(base_url=site.url, headers=site.as_tenant(site.other_token), timeout=120) as other:
        theirs = {(await other.post("/v1/rollouts", json=ONE)).json()["id"] for _ in range(5)}
        played = len(gate.started)
        gate.let(40)
        leased: list[dict[str, Any]] = []
        while len(leased) < len(theirs):
            found = (await other.post("/v1/results/lease", json={"limit": 8, "wait_s": 30})).json()["groups"]
            assert found, "the other tenant starves"
            leased += found
    assert {g["result"]["rollout"] for g in leased} == theirs
    firsts = [spec.run_id in theirs for spec in gate.started[played:]]
    assert sum(firsts[:24]) == len(theirs), "a tenant that comes late has every other turn"
    assert (await site.http.get("/v1/me/use")).json()["episodes"]["pending"] > MANY - 100


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
    short = EpisodeRequest(task="made-up/t0", budgets=Budgets(seconds=1.0))
    dead = [await site.farm.steps.create(A, short, key=None, wait_s=10) for _ in range(2)]
    assert [view.state for view in dead] == ["ready", "ready"]
    next_one = await site.farm.steps.create(B, EpisodeRequest(task="made-up/t1"), key=None, wait_s=20)
    assert next_one.state == "ready"
    ended = [await site.farm.steps.get(A, view.id, wait_s=10) for view in dead]
    assert [isinstance(view.outcome, Censored) and view.outcome.budget for view in ended] == ["seconds", "seconds"]


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
