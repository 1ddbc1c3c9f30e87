"""What a request's body may hold: what can be written to a record, and read again."""

import json
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from envfarm.api.app import RESOURCES, create_app
from envfarm.api.bodies import PlainJson, read
from envfarm.api.services import ApiOptions
from envfarm.core.action import Bash
from envfarm.core.model_call import ModelCall
from envfarm.core.rollout import EpisodeRequest, StepRequest
from envfarm.stores.access import SCOPES
from envfarm.testing.small_service import A, SmallService

NOP: dict[str, Any] = {"tasks": {"names": ["made-up/t0"]}, "policy": {"name": "nop"}}
EPISODE: dict[str, Any] = {"task": "made-up/t0"}
STEP: dict[str, Any] = {"step_id": "s", "action": {"tool": "bash", "command": "ls"}}


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [NaN]}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1E+00400}',
        b'{"a": ' + b"9" * 250 + b"e99}",
        b'{"a": ' + b"9" * 400 + b".0}",
        b'{"a": "\\ud800"}',
        b'{"\\uDFff": 1}',
        b'{"a": "\xed\xa0\x80"}',
        '{"a": "\\ud800"}'.encode("utf-16"),
        b'{"a": "\xff"}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_json_or_unicode_cannot_say_is_refused(body: bytes) -> None:
    with pytest.raises(HTTPException) as refused:
        read(body)
    assert refused.value.status_code == 422


@pytest.mark.parametrize("value", [1e308, -0.0, 5e-324, "\N{GRINNING FACE}", "\\ud800", 10**300, {"é": [None, True, "e123"]}])
def test_all_else_comes_as_it_was_sent(value: object) -> None:
    for ascii_only in (True, False):
        assert read(json.dumps({"a": value}, ensure_ascii=ascii_only).encode()) == {"a": value}


def test_what_is_no_json_at_all_is_told_with_its_place() -> None:
    with pytest.raises(json.JSONDecodeError):
        read(b"{")


def test_every_resource_reads_its_bodies_so() -> None:
    routers: list[APIRouter] = [resource.router for resource in RESOURCES]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute) and route.body_field]
    assert len(routes) >= 10
    assert [route.path for route in routes if not isinstance(route, PlainJson)] == []


async def test_nothing_is_kept_that_cannot_be_read_again(tmp_path: Any) -> None:
    farm = SmallService(tmp_path)
    await farm.open(tasks=1)
    headers = {"Authorization": f"Bearer {await farm.access.issue(A, 't', SCOPES)}", "Content-Type": "application/json"}
    app = httpx.ASGITransport(create_app(farm.services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=app, base_url="http://farm", headers=headers) as http, farm.playing():
        episode = (await farm.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=5)).id
        steps = f"/v1/episodes/{episode}/steps?wait_s=5"
        for path, body in [
            ("/v1/rollouts", NOP | {"budgets": {"seconds": "inf"}}),
            ("/v1/rollouts", NOP | {"metadata": {"a": "\ud800"}}),
            ("/v1/rollouts", NOP | {"policy": {"name": "nop", "options": {"a": ["\ud800"]}}}),
            ("/v1/episodes", EPISODE | {"budgets": {"action_s": "nan"}}),
            (steps, STEP | {"call": {"completion_ids": [5], "logprobs": [float("-inf")]}}),
            (steps, STEP | {"call": {"message": {"role": "assistant", "content": "\ud800"}}}),
        ]:
            answer = await http.post(path, content=json.dumps(body))
            assert (answer.status_code, answer.json()["retryable"]) == (422, False), (path, answer.text)
        asked = StepRequest(step_id="s", action=Bash(command="ls"), call=ModelCall(completion_ids=(5,), logprobs=(-9999.0,)))
        assert (await http.post(steps, content=asked.model_dump_json())).status_code == 200
        assert len((await http.get(f"/v1/episodes/{episode}/trajectory")).json()["steps"]) == 1
        assert (await http.post(f"/v1/episodes/{episode}/grade?wait_s=5")).json()["outcome"]["reward"] == 1
    await farm.close()


async def test_a_step_is_smaller_than_other_bodies(tmp_path: Any) -> None:
    farm = SmallService(tmp_path, api=ApiOptions(max_step_bytes=1000))
    await farm.open(tasks=1)
    headers = {"Authorization": f"Bearer {await farm.access.issue(A, 't', SCOPES)}", "Content-Type": "application/json"}
    app = httpx.ASGITransport(create_app(farm.services), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=app, base_url="http://farm", headers=headers) as http:
        statuses = [(await http.post(path, content=b"[" * 2000)).status_code for path in ("/v1/episodes/e/steps", "/v1/rollouts")]
    assert statuses == [413, 422]
    await farm.close()
