"""Requests that are being read: an agent that sends and never ends fills its own share, and nobody is judged by what others filled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from envfarm.core.ids import EpisodeId
from envfarm.core.program import Allowance
from envfarm.core.sampled import Sampled
from envfarm.gateway.app import gateway_app
from envfarm.gateway.engines.engine_http import engine_session
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.service import REQUESTS_EACH, Gateway
from envfarm.testing.factories import HeldClock
from envfarm.testing.small_tokenizer import small_tokenizer

HI: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
HOSTILE, INNOCENT = EpisodeId("hostile"), EpisodeId("innocent")


class Door:
    """A gateway's applications without a socket, so that a request can be left unfinished."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._tokens: dict[EpisodeId, str] = {}

    def open(self, episode: EpisodeId) -> EpisodeId:
        self._tokens[episode] = self.gateway.open(episode, Allowance(calls=9))
        return episode

    def sampled(self, episode: EpisodeId) -> Sampled:
        return self.gateway.session(episode, self._tokens[episode]).sampled()

    async def count(self, episode: EpisodeId) -> int:
        """The status of a small request."""
        app = httpx.ASGITransport(gateway_app(self.gateway, episode))
        async with httpx.AsyncClient(transport=app, base_url="http://gateway") as client:
            sent = await client.post("/messages/count_tokens", json=HI, headers={"x-api-key": self._tokens[episode]})
        return sent.status_code

    async def begin(self, episode: EpisodeId, size: int) -> int:
        """Send so many bytes and never the rest; the status that it comes to."""
        chunks, statuses = [b" " * size], []
        headers = [(b"x-api-key", self._tokens[episode].encode())]

        async def receive() -> dict[str, Any]:
            if not chunks:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": chunks.pop(), "more_body": True}

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        scope = {"type": "http", "method": "POST", "path": "/messages", "raw_path": b"", "query_string": b"", "headers": headers}
        await gateway_app(self.gateway, episode)({**scope, "http_version": "1.1"}, receive, send)
        return int(statuses[0])


@asynccontextmanager
async def door(**options: Any) -> AsyncIterator[Door]:
    async with engine_session() as http:
        gateway = Gateway(small_tokenizer(), http, clock=HeldClock(), options=GatewayOptions(**options))
        yield Door(gateway)
        await gateway.aclose()


async def test_an_agent_that_never_ends_what_it_sends_fills_its_own_share() -> None:
    async with door(request_bytes=1000, requests_bytes=5000) as one:
        hostile, innocent = one.open(HOSTILE), one.open(INNOCENT)
        begun = [asyncio.create_task(one.begin(hostile, 1000)) for _ in range(8)]
        done, waiting = await asyncio.wait(begun, timeout=0.2)
        assert len(waiting) == REQUESTS_EACH
        assert {task.result() for task in done} == {429}
        assert await one.count(innocent) == 200
        assert await one.count(hostile) == 429
        assert (await one.gateway.close(HOSTILE)).last == ""  # its own doing
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert await one.count(innocent) == 200


async def test_whoever_holds_most_makes_place_and_it_is_their_own_doing() -> None:
    async with door(request_bytes=1000, requests_bytes=5000) as one:
        crowd = [one.open(EpisodeId(f"hostile-{n}")) for n in range(3)]
        begun = [asyncio.create_task(one.begin(episode, 900)) for episode in crowd for _ in range(REQUESTS_EACH)]
        innocent = one.open(INNOCENT)
        for _ in range(3):
            assert await one.count(innocent) == 200
        done, waiting = await asyncio.wait(begun, timeout=0.2)
        assert {task.result() for task in done} == {429}
        assert len(waiting) == 5
        assert {one.sampled(episode).last for episode in (*crowd, innocent)} == {""}
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_an_ordinary_request_that_others_leave_no_room_is_the_farms_failure() -> None:
    async with door(request_bytes=1000, requests_bytes=700) as one:
        crowd = [one.open(EpisodeId(f"small-{n}")) for n in range(3)]
        begun = [asyncio.create_task(one.begin(episode, size)) for episode, size in zip(crowd, (230, 240, 235), strict=True)]
        done, waiting = await asyncio.wait(begun, timeout=0.2)
        assert [task.result() for task in done] == [429]
        assert [one.sampled(episode).last for episode in crowd] == ["", "failed", ""]
        assert one.sampled(crowd[1]).failures[0].cause == "gateway"
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def test_who_fills_the_room_alone_is_not_the_farms_victim() -> None:
    async with door(request_bytes=1000, requests_bytes=950) as one:
        hostile = one.open(HOSTILE)
        assert await one.begin(hostile, 1000) == 429
        assert one.sampled(hostile).last == ""
        assert await one.count(hostile) == 200


async def test_a_request_that_does_not_come_to_its_end_is_not_waited_for() -> None:
    async with door(read_s=0.05) as one:
        assert await one.begin(one.open(HOSTILE), 10) == 400
