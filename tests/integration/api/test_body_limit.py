"""What of a request's body is received, and held: nothing without a token, and not too much with one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from sqlalchemy import text
from starlette.types import Message, Receive, Scope, Send

from envfarm.api.app import RESOURCES, create_app
from envfarm.api.bodies import MOST_BRACKETS
from envfarm.api.services import ApiOptions
from envfarm.core.rollout import EpisodeRequest
from envfarm.stores.access import SCOPES
from envfarm.testing.served import served
from envfarm.testing.small_service import A, B, SmallService

LARGE = 300_000


@dataclass
class Site:
    farm: SmallService
    url: str
    token: str
    other_token: str
    received: list[int]
    """Bytes of each piece of a body that the service took."""

    def headers(self, token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    async def post(self, path: str, content: bytes, *, token: str = "") -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url, headers=self.headers(token or self.token), timeout=60) as http:
            return await http.post(path, content=content)

    @asynccontextmanager
    async def half(self, path: str, size: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A body of which so much is sent, and the rest is not."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {self.token}", f"Content-Length: {size + 1}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + b" " * size)
        try:
            yield reader, writer
        finally:
            writer.close()


@pytest.fixture
async def site(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    farm = SmallService(tmp_path, api=getattr(request, "param", ApiOptions()))
    await farm.open(tasks=1)
    token, other = [await farm.access.issue(tenant, "t", SCOPES) for tenant in (A, B)]
    app, received = create_app(farm.services), list[int]()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def taken() -> Message:
            message = await receive()
            received.append(len(message.get("body", b"")))
            return message

        await app(scope, taken, send)

    async with AsyncExitStack() as held:
        await held.enter_async_context(farm.playing())
        yield Site(farm, await held.enter_async_context(served(watched)), token, other, received)
    await farm.close()


async def call(app: Any, method: str, path: str, headers: dict[str, str]) -> tuple[Message, Any]:
    """An answer's head and body, where nothing of the request's body may be received."""
    scope: Scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""}
    scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0], json.loads(sent[1]["body"])


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer made-up"}, {"Authorization": "Basic YTpi"}])
async def test_no_resource_receives_the_body_of_a_call_without_a_known_token(tmp_path: Path, headers: dict[str, str]) -> None:
    farm = SmallService(tmp_path)
    await farm.open(tasks=1)
    app = create_app(farm.services)
    routers: list[APIRouter] = [resource.router for resource in RESOURCES]
    routes = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    assert len(routes) >= 40
    for route in routes:
        for method in route.methods or ():
            head, problem = await call(app, method, route.path, headers | {"Content-Length": str(1 << 40)})
            told = dict(head["headers"])
            assert (head["status"], told[b"www-authenticate"], problem["retryable"]) == (401, b"Bearer", False), route.path
            assert told[b"content-type"] == b"application/problem+json"
    await farm.close()


async def test_a_database_that_does_not_know_whose_token_it_is_is_no_wrong_token(tmp_path: Path) -> None:
    farm = SmallService(tmp_path)
    await farm.open(tasks=1)
    assert farm.engine is not None
    with farm.engine.begin() as c:
        c.execute(text("drop table tokens"))
    head, problem = await call(create_app(farm.services), "POST", "/v1/rollouts", {"Authorization": "Bearer made-up"})
    assert (head["status"], problem["cause"], problem["retryable"]) == (503, "store", True)
    await farm.close()


CROWDED = ApiOptions(max_held_bytes=2 * LARGE, max_held_bytes_each=LARGE, body_patience_s=600)


@pytest.mark.parametrize("site", [CROWDED, CROWDED.model_copy(update={"max_held_bytes_each": 3 * LARGE})], indirect=True)
async def test_bodies_that_do_not_end_fill_no_memory(site: Site) -> None:
    options, body = site.farm.services.options, b" " * 100_000
    async with AsyncExitStack() as held:
        halves = options.max_held_bytes // LARGE if options.max_held_bytes_each > LARGE else 1
        for _ in range(halves):
            await held.enter_async_context(site.half("/v1/rollouts", LARGE))
        while sum(site.received) < halves * LARGE:  # noqa: ASYNC110 - what the service takes rings no bell here
            await asyncio.sleep(0.01)
        refused = await site.post("/v1/rollouts", body)
        assert (refused.status_code, refused.headers["Retry-After"], refused.json()["retryable"]) == (429, "1", True)
        others = await site.post("/v1/rollouts", body, token=site.other_token)
        assert others.status_code == (422 if options.max_held_bytes_each == LARGE else 429)
        stored = await site.post("/v1/catalogue/blobs/sha256:" + "0" * 64, body)
        assert stored.status_code == HTTPStatus.METHOD_NOT_ALLOWED  # what goes to the disk is not counted
    while (again := await site.post("/v1/rollouts", body)).status_code == HTTPStatus.TOO_MANY_REQUESTS:
        pass  # until the connections' end was heard of
    assert again.status_code == HTTPStatus.UNPROCESSABLE_ENTITY


@pytest.mark.parametrize("site", [ApiOptions(body_patience_s=0.2)], indirect=True)
async def test_a_body_that_does_not_come_is_not_waited_for(site: Site) -> None:
    async with site.half("/v1/rollouts", 1000) as (reader, _):
        answer = (await reader.read()).decode()
    head, _, problem = answer.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 408 ")
    assert json.loads(problem)["retryable"] is True


async def test_a_body_of_very_many_values_is_not_read(site: Site) -> None:
    empty = b'{"a":[' + b"[]," * (MOST_BRACKETS + 1) + b"[]]}"
    assert (await site.post("/v1/rollouts", empty)).status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


async def test_of_very_many_faults_none_is_told(site: Site) -> None:
    wrong = {"tasks": {"names": [1] * 100_000}, "policy": {"name": "nop"}}
    answer = await site.post("/v1/rollouts", json.dumps(wrong).encode())
    assert (answer.status_code, answer.json().get("errors")) == (422, None)
    few = {"tasks": {"names": ["n" * 100_000]}, "policy": {"name": "nop"}}
    told = (await site.post("/v1/rollouts", json.dumps(few).encode())).json()
    assert [error["where"] for error in told["errors"]] == ["body.tasks.names.0"]


@pytest.mark.parametrize("one", ["1", "123456"])
async def test_a_step_may_bring_as_many_token_ids_as_it_has_bytes(site: Site, one: str) -> None:
    episode = (await site.farm.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=10)).id
    room = site.farm.services.options.max_step_bytes - 1000
    ids = ",".join([one] * (room // (len(one) + 1)))
    step = '{"step_id":"s","action":{"tool":"bash","command":"ls"},"call":{"completion_ids":[' + ids + "]}}"
    answer = await site.post(f"/v1/episodes/{episode}/steps?wait_s=10", step.encode())
    assert answer.status_code == HTTPStatus.OK, answer.text[:300]
    wrong = step.replace('"ls"', "5").replace(f"[{one}", '["x"')
    told = (await site.post(f"/v1/episodes/{episode}/steps?wait_s=10", wrong.encode())).json()
    assert [error["where"] for error in told["errors"]] == ["body.action.bash.command", "body.call.completion_ids.0"]
