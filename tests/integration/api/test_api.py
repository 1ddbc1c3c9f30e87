"""The API over a socket, as a trainer without our client sees it."""

import asyncio
import json
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest

from envfarm.api.app import create_app
from envfarm.api.cursors import encode
from envfarm.api.services import ApiOptions
from envfarm.core.outcome import Censored
from envfarm.core.outcome import TestReport as SuiteReport
from envfarm.core.rollout import Quota
from envfarm.testing.factories import make_scored
from envfarm.testing.served import served
from envfarm.testing.small_service import A
from tests.integration.api.conftest import Site

ASKED = {"tasks": {"names": ["made-up/t0", "made-up/t1"]}, "group_size": 2, "policy": {"name": "nop"}}


async def done(site: Site, asked: dict[str, Any] = ASKED, **headers: str) -> dict[str, Any]:
    """A rollout that is over."""
    reply = await site.http.post("/v1/rollouts", json=asked, headers=headers)
    assert reply.status_code == 202, reply.text
    async with site.http.stream("GET", f"{reply.headers['location']}/events") as stream:
        [line async for line in stream.aiter_lines()]
    found: dict[str, Any] = (await site.http.get(reply.headers["location"])).json()
    return found


async def test_a_rollout_from_asking_to_acknowledging(site: Site) -> None:
    rollout = await done(site)
    assert (rollout["state"], rollout["groups"], rollout["episodes"]) == ("done", {"ready": 2}, {"done": 4})
    leased = (await site.http.post("/v1/results/lease", json={"limit": 5, "wait_s": 5})).json()["groups"]
    assert [len(g["result"]["members"]) for g in leased] == [2, 2]
    assert leased[0]["result"]["members"][0]["outcome"]["reward"] == 1.0
    leases = [g["lease"] for g in leased]
    for _ in range(2):
        assert (await site.http.post("/v1/results/acknowledge", json={"leases": leases})).json() == {"acknowledged": leases, "lapsed": []}
    assert (await site.http.post("/v1/results/lease", json={})).json() == {"groups": []}
    assert rollout["id"] in {r["id"] for r in (await site.http.get("/v1/rollouts")).json()["items"]}


@pytest.mark.parametrize("budgets", [{"seconds": -1}, {"turns": 0}, {"action_s": -1}, {"observation_chars": -5}])
async def test_a_budget_that_is_none_is_refused(site: Site, budgets: dict[str, float]) -> None:
    replies = [
        await site.http.post("/v1/rollouts", json=ASKED | {"budgets": budgets}),
        await site.http.post("/v1/episodes", json={"task": "made-up/t0", "budgets": budgets}),
    ]
    assert [(reply.status_code, next(iter(budgets)) in reply.json()["detail"]) for reply in replies] == [(422, True)] * 2


async def test_a_key_makes_asking_safe_to_repeat(site: Site) -> None:
    first = await site.http.post("/v1/rollouts", json=ASKED, headers={"Idempotency-Key": "k"})
    again = await site.http.post("/v1/rollouts", json=ASKED, headers={"Idempotency-Key": "k"})
    other = await site.http.post("/v1/rollouts", json=ASKED | {"seed": 1}, headers={"Idempotency-Key": "k"})
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["cause"], other.json()["retryable"]) == (409, "usage", False)


async def test_events_stream_and_resume_where_they_broke_off(site: Site) -> None:
    rollout = await done(site)
    path = f"/v1/rollouts/{rollout['id']}/events"
    whole = (await site.http.get(path)).text
    numbers = [int(line.split(": ")[1]) for line in whole.splitlines() if line.startswith("id: ")]
    assert numbers == list(range(1, len(numbers) + 1))
    rest = (await site.http.get(path, headers={"Last-Event-ID": "3"})).text
    assert rest == whole[whole.index("id: 4\n") :]
    last = json.loads(rest.rstrip().rsplit("data: ", 1)[1])
    assert last["kind"] == "done"


async def test_trajectories_come_page_by_page_and_compressed(site: Site) -> None:
    rollout = await done(site)
    path, cursor, seen = f"/v1/rollouts/{rollout['id']}/trajectories", "", []
    while cursor is not None:
        reply = await site.http.get(path, params={"limit": 3, "cursor": cursor})
        assert reply.headers["content-encoding"] == "gzip"
        seen += reply.json()["items"]
        cursor = reply.json()["next"]
    assert [t["spec"]["member"] for t in seen] == [0, 1, 0, 1]
    assert all(len(t["trajectory"]["steps"]) == 2 for t in seen)
    one = (await site.http.get(f"/v1/episodes/{seen[0]['spec']['episode_id']}/trajectory")).json()
    assert one == seen[0]["trajectory"]


async def test_cancelling_twice_is_no_error(site: Site) -> None:
    assert (await site.http.post("/v1/policies/default/pause")).json()["rollouts"] == 0
    reply = await site.http.post("/v1/rollouts", json=ASKED)
    assert [(await site.http.get(f"/v1/policies/{name}")).json()["rollouts"] for name in ("default", "defualt")] == [1, 0]
    for _ in range(2):
        assert (await site.http.delete(reply.headers["location"])).json()["state"] == "cancelled"


async def test_an_operator_stops_all_of_a_tenants_work(site: Site) -> None:
    admin = site.as_tenant(site.admin_token)
    await site.http.post("/v1/policies/held/pause")
    rollout = (await site.http.post("/v1/rollouts", json=ASKED | {"policy_name": "held"})).headers["location"]
    driven = (await site.http.post("/v1/episodes", json={"task": "made-up/t0"})).json()["id"]
    assert (await site.http.delete("/v1/tenants/a/rollouts")).status_code == 403
    assert (await site.http.delete("/v1/tenants/nobody/rollouts", headers=admin)).status_code == 404
    assert (await site.http.delete("/v1/tenants/b/rollouts", headers=admin)).json() == {"rollouts": 0, "running_episodes": 0}
    assert (await site.http.get(rollout)).json()["state"] == "active"
    for expected in ({"rollouts": 2, "running_episodes": 1}, {"rollouts": 0, "running_episodes": 0}):
        assert (await site.http.delete("/v1/tenants/a/rollouts", headers=admin)).json() == expected
    assert (await site.http.get(rollout)).json()["state"] == "cancelled"
    outcome = (await site.http.get(f"/v1/episodes/{driven}")).json()["outcome"]
    assert (outcome["kind"], outcome["cause"]) == ("invalid", "cancelled")


async def test_a_policy_moves_on_and_never_back(site: Site) -> None:
    assert (await site.http.get("/v1/policies/mine")).json() == {"name": "mine", "version": 0, "paused": False, "rollouts": 0}
    assert (await site.http.post("/v1/policies/mine/version", json={"version": 4})).json()["version"] == 4
    assert (await site.http.post("/v1/policies/mine/version", json={"version": 3})).status_code == 409
    assert (await site.http.post("/v1/policies/mine/pause")).json()["paused"] is True
    assert (await site.http.post("/v1/policies/mine/resume")).json()["paused"] is False
    assert (await site.http.post("/v1/policies/mine/abort")).status_code == 200


async def test_an_episode_is_driven_step_by_step(site: Site) -> None:
    view = (await site.http.post("/v1/episodes", json={"task": "made-up/t0"})).json()
    assert view["state"] == "ready"
    step = {"step_id": "1", "action": {"tool": "bash", "command": "ls"}, "call": {"completion_ids": [1, 2], "logprobs": [-0.5, -0.25]}}
    path = f"/v1/episodes/{view['id']}"
    for _ in range(2):
        seen = (await site.http.post(f"{path}/steps", json=step)).json()
        assert (seen["done"], seen["observation"]["text"], seen["episode"]["turns"]) == (True, "ls\n[exit status 0]", 1)
    graded = (await site.http.post(f"{path}/grade")).json()
    assert (graded["terminated"], graded["outcome"]["kind"], graded["outcome"]["reward"]) == (True, "scored", 1.0)
    assert (await site.http.post(f"{path}/grade")).json() == graded
    told = (await site.http.get(f"{path}/trajectory")).json()
    assert told["steps"][0]["call"]["completion_ids"] == [1, 2]
    assert (await site.http.delete(path)).json()["state"] == "ended"


async def test_a_patch_has_a_reward(site: Site) -> None:
    asked = {"task": "made-up/t0", "patch": "--- a/x\n+++ b/x\n"}
    reply = await site.http.post("/v1/rewards", json=asked, headers={"Idempotency-Key": "p"})
    assert (reply.status_code, reply.json()["outcome"]["reward"], reply.json()["applied"]) == (200, 1.0, True)


SECRET = "assert heaviest([4, 9, 6]) == 9"


async def test_no_tenant_reads_what_sealed_tests_printed(site: Site) -> None:
    report = SuiteReport(
        statuses={"t::expected": "failed", f"t::written by a patch {SECRET}": "passed"},
        fail_to_pass={"t::expected": False},
        log_tail=SECRET,
    )
    scored = make_scored(0.0, report=report)
    site.farm.grader.outcomes = [scored, Censored("turns", scored), scored]
    reward = await site.http.post("/v1/rewards", json={"task": "made-up/t0", "patch": "--- a/x\n+++ b/x\n"})
    rollout = (await done(site, ASKED | {"tasks": {"names": ["made-up/t0"]}, "group_size": 1}))["id"]
    driven = f"/v1/episodes/{(await site.http.post('/v1/episodes', json={'task': 'made-up/t0'})).json()['id']}"
    step = {"step_id": "end", "action": {"tool": "finish"}}
    answers = [reward, await site.http.post(f"{driven}/steps", json=step), await site.http.post(f"{driven}/grade")]
    answers += [await site.http.post("/v1/results/lease", json={"limit": 5}), await site.http.get("/v1/episodes")]
    for run in (driven, f"/v1/episodes/{reward.json()['id']}", f"/v1/episodes/{rollout}.{reward.json()['id'].split('.', 1)[1]}"):
        answers += [await site.http.get(run), await site.http.get(f"{run}/trajectory"), await site.http.get(f"{run}/explanation")]
    answers += [await site.http.get(f"/v1/rollouts/{rollout}/{part}") for part in ("events", "trajectories")]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert [str(answer.url) for answer in answers if SECRET in answer.text] == []
    assert reward.json()["outcome"]["report"]["statuses"] == {"t::expected": "failed"}
    operator = await site.http.get(f"{driven}/explanation", headers=site.as_tenant(site.admin_token))
    assert SECRET in operator.text


async def test_tasks_are_selected_and_shown_without_their_solutions(site: Site) -> None:
    page = (await site.http.get("/v1/tasks", params={"language": "python"})).json()
    assert ([t["name"] for t in page["items"]], page["total"]) == (["made-up/t0", "made-up/t2"], 2)
    rest = (await site.http.get("/v1/tasks", params={"cursor": encode(3)})).json()
    assert ([t["name"] for t in rest["items"]], rest["total"], rest["next"]) == (["made-up/t3"], 4, None)
    assert (await site.http.get("/v1/tasks", params={"cursor": "made up"})).status_code == 422
    await done(site)
    banded = (await site.http.get("/v1/tasks", params={"min_pass_rate": 0.5})).json()
    assert [(t["name"], t["scored"], t["pass_rate"]) for t in banded["items"]] == [("made-up/t0", 2, 1.0), ("made-up/t1", 2, 1.0)]
    one = (await site.http.get("/v1/tasks/made-up/t0")).json()
    assert one["instruction"] == "Make `add` add."
    assert not {"solution", "tests", "plan"} & set(one)
    assert (await site.http.get("/v1/tasks/made-up/none")).status_code == 404


async def test_datasets_never_change_and_no_repository_leaks(site: Site) -> None:
    asked = {"name": "d", "version": "1", "tasks": {}, "eval_share": 0.5}
    made = (await site.http.post("/v1/datasets", json=asked)).json()
    assert {split: len(tasks) for split, tasks in made["splits"].items()} == {"train": 2, "eval": 2}
    assert (await site.http.post("/v1/datasets", json=asked)).json() == made
    rows = {r.digest: r.repository for r in await site.farm.catalogue.rows()}
    assert not {rows[t] for t in made["splits"]["train"]} & {rows[t] for t in made["splits"]["eval"]}
    other = {"name": "d", "version": "1", "splits": {"train": ["made-up/t0"]}}
    assert (await site.http.post("/v1/datasets", json=other)).status_code == 422
    leaking = {"name": "l", "version": "1", "splits": {"train": ["made-up/t0"], "eval": ["made-up/t1"]}}
    assert "made-up/r0" in (await site.http.post("/v1/datasets", json=leaking)).json()["detail"]
    await site.farm.catalogue.quarantine((await site.farm.catalogue.find("made-up/t3")).digest, "its tests are wrong")
    bad = {"name": "b", "version": "1", "splits": {"train": ["made-up/t3"]}}
    assert "t3 is quarantined" in (await site.http.post("/v1/datasets", json=bad)).json()["detail"]
    await site.farm.catalogue.lift_quarantine((await site.farm.catalogue.find("made-up/t3")).digest)
    hidden = await site.http.post("/v1/datasets", json=asked | {"name": "x__y"})
    assert (hidden.status_code, "x__y" in hidden.json()["detail"]) == (422, True)
    assert (await site.http.get("/v1/datasets")).json() == ["d@1"]
    assert (await site.http.get("/v1/datasets/d@1")).json() == made
    assert (await site.http.get("/v1/datasets/d@1", headers=site.as_tenant(site.other_token))).status_code == 404
    rollout = await done(site, ASKED | {"tasks": {"dataset": "d@1", "split": "eval"}})
    assert rollout["groups"] == {"ready": 2}


async def test_datasets_are_bounded(site: Site) -> None:
    asked: dict[str, Any] = {"name": "d", "version": "1", "splits": {"train": ["made-up/t0"], "eval": ["made-up/t2"]}}
    for wrong in ({"a": ["n"] * 5000, "b": ["m"] * 5001}, {"a": ["n" * 201]}, {"a": [f"n{n}" for n in range(101)]}):
        assert (await site.http.post("/v1/datasets", json=asked | {"splits": wrong})).status_code == 422
    await site.farm.access.add_tenant(A, Quota(datasets=1))
    assert (await site.http.post("/v1/datasets", json=asked)).status_code == 201
    assert (await site.http.post("/v1/datasets", json=asked)).status_code == 201
    more = await site.http.post("/v1/datasets", json=asked | {"version": "2"})
    assert (more.status_code, more.json()["retryable"]) == (409, False)
    assert (await site.http.post("/v1/datasets", json=asked, headers=site.as_tenant(site.other_token))).status_code == 201


async def test_a_dataset_that_is_made_is_a_waiting_call(site: Site) -> None:
    app = create_app(replace(site.farm.services, options=ApiOptions(waiting_calls=1)))
    asked = {"name": "d", "version": "1", "splits": {"train": ["made-up/t0"]}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://farm", headers=site.as_tenant(site.token)) as http:
        with app.state.waiting.held(A):
            assert (await http.post("/v1/datasets", json=asked)).status_code == 429
        assert (await http.post("/v1/datasets", json=asked)).status_code == 201


async def test_another_tenant_sees_cancels_and_leases_nothing(site: Site) -> None:
    rollout = await done(site)
    view = (await site.http.post("/v1/episodes", json={"task": "made-up/t0"})).json()
    leased = (await site.http.post("/v1/results/lease", json={})).json()["groups"]
    theirs = httpx.AsyncClient(base_url=site.url, headers=site.as_tenant(site.other_token), timeout=30)
    async with theirs as http:
        run, episode = f"/v1/rollouts/{rollout['id']}", f"/v1/episodes/{view['id']}"
        asked = [
            *(("GET", run), ("DELETE", run), ("GET", f"{run}/events"), ("GET", f"{run}/trajectories")),
            *(("GET", episode), ("DELETE", episode), ("GET", f"{episode}/trajectory"), ("POST", f"{episode}/grade")),
            *(("POST", f"{episode}/fork"), ("POST", f"{episode}/snapshot")),
        ]
        mine = {rollout["id"], view["id"]}
        for method, path in asked:
            reply = await http.request(method, path, json={} if path.endswith("/fork") else None)
            assert reply.status_code == 404, (method, path, reply.text)
            nowhere = path.replace(rollout["id"], "rollout-0").replace(view["id"], "episode-0")
            nobodys = await http.request(method, nowhere, json={} if path.endswith("/fork") else None)
            told, hidden = ({**r.json(), "detail": ""} for r in (nobodys, reply))
            assert (nobodys.status_code, told) == (404, hidden), "no hint that it exists"
        step = {"step_id": "1", "action": {"tool": "bash", "command": "ls"}}
        assert (await http.post(f"/v1/episodes/{view['id']}/steps", json=step)).status_code == 404
        assert (await http.post("/v1/results/lease", json={})).json() == {"groups": []}
        others, nobodys = [await http.post("/v1/results/lease", json={"rollouts": [run]}) for run in (rollout["id"], "rollout-0")]
        assert (others.status_code, nobodys.json()["detail"]) == (404, "no rollout 'rollout-0'")
        assert others.json() == nobodys.json() | {"detail": f"no rollout '{rollout['id']}'"}
        lapsed = (await http.post("/v1/results/acknowledge", json={"leases": [leased[0]["lease"]]})).json()
        assert lapsed["acknowledged"] == []
        assert not mine & {r["id"] for r in (await http.get("/v1/rollouts")).json()["items"]}
        assert all(t["scored"] == 0 for t in (await http.get("/v1/tasks")).json()["items"])
        await http.post("/v1/policies/default/abort")
        assert (await http.post("/v1/policies/default/version", json={"version": 9})).json()["version"] == 9
    assert (await site.http.get("/v1/policies/default")).json()["version"] == 0
    assert (await site.http.get(f"/v1/episodes/{view['id']}")).json()["state"] == "ready"


async def test_tokens_scopes_and_tenants(site: Site) -> None:
    for headers in ({}, {"Authorization": "Bearer made-up"}, {"Authorization": "Basic eDp5"}):
        async with httpx.AsyncClient(base_url=site.url) as nobody:
            reply = await nobody.get("/v1/rollouts", headers=headers)
        assert (reply.status_code, reply.headers["content-type"]) == (401, "application/problem+json")
    admin = site.as_tenant(site.admin_token)
    assert (await site.http.put("/v1/tenants/new", json={})).status_code == 403
    assert (await site.http.put("/v1/tenants/new", json={"live_episodes": 1}, headers=admin)).json()["live_episodes"] == 1
    made = await site.http.post("/v1/tenants/new/tokens", json={"name": "x", "scopes": ["tasks"]}, headers=admin)
    narrow = site.as_tenant(made.json()["token"])
    assert (await site.http.get("/v1/me", headers=narrow)).json()["tenant"] == "new"
    assert (await site.http.get("/v1/tasks", headers=narrow)).status_code == 200
    assert (await site.http.get("/v1/rollouts", headers=narrow)).status_code == 403
    assert (await site.http.delete("/v1/tenants/new/tokens/x", headers=admin)).json() == {"revoked": 1}
    assert (await site.http.get("/v1/tasks", headers=narrow)).status_code == 401


async def test_errors_are_problems(site: Site) -> None:
    wrong = await site.http.post("/v1/rollouts", json=ASKED | {"group_size": 0, "groupsize": 1})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    assert {e["where"] for e in wrong.json()["errors"]} == {"body.group_size", "body.groupsize"}
    unknown = await site.http.post("/v1/rollouts", json=ASKED | {"policy": {"name": "evil"}})
    assert (unknown.status_code, unknown.json()["retryable"]) == (422, False)
    for reply in (await site.http.get("/nowhere"), await site.http.put("/v1/rollouts"), await site.http.get("/v1/rollouts?cursor=zzz")):
        assert reply.headers["content-type"] == "application/problem+json"
        assert 400 <= reply.status_code < 500


async def test_requests_and_queues_are_bounded(site: Site) -> None:
    large = b'{"task": "' + b"x" * (17 << 20) + b'"}'
    refused = await site.http.post("/v1/rewards", content=large)
    assert (refused.status_code, refused.headers["content-type"]) == (413, "application/problem+json")

    async def lying() -> Any:
        for _ in range(17):
            yield b"x" * (1 << 20)

    assert (await site.http.post("/v1/rewards", content=lying())).status_code == 413
    await site.farm.access.add_tenant(A, Quota(unfinished_episodes=3))
    await site.http.post("/v1/policies/default/pause")
    full = await site.http.post("/v1/rollouts", json=ASKED | {"tasks": {"names": ["made-up/t0"]}, "group_size": 3})
    assert full.status_code == 202
    await site.farm.access.add_tenant(A, Quota(active_rollouts=0))
    again = await site.http.post("/v1/rollouts", json=ASKED)
    assert again.status_code in {409, 429}
    await site.farm.access.add_tenant(A, Quota(active_rollouts=1))
    await site.http.post("/v1/rollouts", json=ASKED)
    again = await site.http.post("/v1/rollouts", json=ASKED)
    assert (again.status_code, again.json()["retryable"]) == (429, True)
    assert int(again.headers["retry-after"]) >= 1


async def test_waiting_calls_are_bounded_per_tenant(site: Site) -> None:
    app = create_app(site.farm.services)
    async with served(app) as url, httpx.AsyncClient(base_url=url, headers=site.as_tenant(site.token), timeout=60) as http:
        with ExitStack() as held:
            for _ in range(256):
                held.enter_context(app.state.waiting.held(A))
            reply = await http.post("/v1/results/lease", json={"wait_s": 5})
            assert reply.status_code == 429
        assert (await http.post("/v1/results/lease", json={})).status_code == 200


async def test_a_long_poll_is_answered_when_the_first_group_is_ready(site: Site) -> None:
    waiting = asyncio.create_task(site.http.post("/v1/results/lease", json={"wait_s": 60}))
    await site.http.post("/v1/rollouts", json=ASKED)
    assert len((await waiting).json()["groups"]) == 1


async def test_health_is_told_without_a_token(site: Site) -> None:
    async with httpx.AsyncClient(base_url=site.url) as nobody:
        assert (await nobody.get("/healthz")).json()["ok"] is True
        assert (await nobody.get("/readyz")).json()["ok"] is True


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_the_contract_can_be_read_without_a_token(site: Site, path: str) -> None:
    async with httpx.AsyncClient(base_url=site.url) as nobody:
        assert (await nobody.get(path)).status_code == 200
