"""A tenant that tries every endpoint with another tenant's ids. The endpoints come from the served OpenAPI."""

import asyncio
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from envfarm.core.episode import PolicySpec
from envfarm.core.rollout import EpisodeRequest, LeaseRequest, RolloutRequest, TaskSelector
from envfarm.testing.small_service import A
from tests.integration.api.conftest import Site

SECRET = "words-of-tenant-a"
BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"step_id": "s", "action": {"tool": "finish"}},
    {"name": "stolen", "scopes": ["rollouts"]},
    {"unfinished_episodes": 0},
)


async def test_another_tenants_ids_are_worth_nothing_at_any_endpoint(site: Site) -> None:
    names = TaskSelector(names=("made-up/t0",))
    asked = RolloutRequest(tasks=names, policy=PolicySpec(name="nop"), metadata={"note": SECRET})
    rollout = await site.farm.service.submit(A, asked)
    done = await site.farm.service.lease_results(A, LeaseRequest(wait_s=10))
    mine = await site.farm.steps.create(A, EpisodeRequest(task="made-up/t1", metadata={"note": SECRET}), key=None, wait_s=10)
    ids: dict[str, list[str]] = {"rollout": [rollout.id], "episode": [mine.id, done[0].result.members[0].episode], "tenant": [A]}
    openapi = (await site.http.get("/openapi.json")).json()
    tried = 0
    async with httpx.AsyncClient(base_url=site.url, headers=site.as_tenant(site.other_token), timeout=60) as thief:
        for path, methods in openapi["paths"].items():
            owned = [name for name in ids if "{" + name + "}" in path]
            for method in methods:
                for one in ids[owned[0]] if owned else ():
                    for body in BODIES if method in {"post", "put"} else (None,):
                        url = path.replace("{" + owned[0] + "}", one).replace("{name}", "t")
                        answer = await thief.request(method, url, json=body)
                        assert answer.status_code in {403, 404, 422}, (method, url, answer.text)
                        assert SECRET not in answer.text
                        tried += 1
        stolen = await thief.post("/v1/results/acknowledge", json={"leases": [done[0].lease]})
        assert stolen.json() == {"acknowledged": [], "lapsed": [done[0].lease]}
        for path in ("/v1/rollouts", "/v1/policies/default", "/v1/tasks", "/v1/datasets", "/v1/me", "/v1/usage?by=episode", "/metrics"):
            answer = await thief.get(path)
            assert answer.status_code < 500
            assert SECRET not in answer.text
            assert rollout.id not in answer.text
        assert (await thief.get("/v1/usage", params={"everyone": True})).status_code == 403
    assert tried >= 20
    assert (await site.farm.steps.get(A, mine.id)).state == "ready"
    assert (await site.farm.service.acknowledge(A, [done[0].lease])).acknowledged == (done[0].lease,)


async def test_what_was_done_can_be_scraped_by_whoever_may(site: Site) -> None:
    asked = RolloutRequest(tasks=TaskSelector(names=("made-up/t0",)), group_size=2, policy=PolicySpec(name="nop"))
    rollout = (await site.http.post("/v1/rollouts", json=asked.model_dump(mode="json"))).json()["id"]
    await site.http.post("/v1/results/lease", json={"wait_s": 10})
    assert (await site.http.get("/metrics")).status_code == 403
    found: dict[tuple[str, ...], float] = {}
    page = await site.http.get("/metrics", headers=site.as_tenant(site.admin_token))
    while found.get(("envfarm_usage_total", "a", "boxes")) != 2:  # the host tells at its next renewal
        await asyncio.sleep(0.1)
        page = await site.http.get("/metrics", headers=site.as_tenant(site.admin_token))
        found = {(s.name, *sorted(s.labels.values())): s.value for f in text_string_to_metric_families(page.text) for s in f.samples}
    assert found["envfarm_asked_total", "rollout", "taken"] == 1
    assert found["envfarm_admissions_total", "granted"] == 2
    assert found["envfarm_box_create_seconds_count", "", "agent", "scripted"] == 2
    assert found["envfarm_boxes", "agent"] == 0
    assert found["envfarm_usage_total", "a", "boxes"] == 2
    assert found["envfarm_request_seconds_count", "/v1/rollouts", "202", "POST"] == 1
    assert rollout not in page.text
