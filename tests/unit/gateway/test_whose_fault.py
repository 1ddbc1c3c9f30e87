"""What a program sends and nobody can read is that request's fault, told in its dialect, and never a failure of the farm."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from envfarm.core.ids import EpisodeId
from envfarm.core.program import Allowance
from envfarm.core.sampled import Sampled
from envfarm.gateway.app import gateway_app
from envfarm.gateway.engines.engine_http import engine_session
from envfarm.gateway.hugging_face import HuggingFaceTokenizer
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.service import Gateway
from envfarm.testing.factories import HeldClock
from envfarm.testing.small_tokenizer import TEMPLATE, small_tokenizer, tokenizer_json

EPISODE = EpisodeId("e")
HALF = "\ud800"
NAMED: dict[str, Any] = {"name": HALF, "arguments": json.dumps({"a": HALF, HALF: [HALF]})}


@dataclass
class Door:
    """One episode's application without a socket."""

    gateway: Gateway
    client: httpx.AsyncClient

    async def post(self, path: str, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()  # httpx itself refuses half characters
        return await self.client.post(path, content=content)

    async def close(self) -> Sampled:
        return await self.gateway.close(EPISODE)


@asynccontextmanager
async def door(tokenizer: HuggingFaceTokenizer | None = None, **options: Any) -> AsyncIterator[Door]:
    async with engine_session() as http:
        gateway = Gateway(tokenizer or small_tokenizer(), http, clock=HeldClock(), options=GatewayOptions(**options))
        headers = {"authorization": f"Bearer {gateway.open(EPISODE, Allowance(calls=9))}"}
        app = httpx.ASGITransport(gateway_app(gateway, EPISODE), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=app, base_url="http://gateway", headers=headers) as client:
            yield Door(gateway, client)
        await gateway.aclose()


HALVES = {
    "chat/completions": {
        "messages": [
            {"role": "user", "content": HALF},
            {"role": "assistant", "reasoning_content": HALF, "tool_calls": [{"id": HALF, "type": "function", "function": NAMED}]},
            {"role": "tool", "tool_call_id": HALF, "content": HALF},
        ]
    },
    "responses": {
        "input": [
            {"role": "user", "content": HALF},
            {"type": "function_call", "call_id": HALF, **NAMED},
            {"type": "function_call_output", "call_id": HALF, "output": HALF},
        ]
    },
    "messages": {
        "max_tokens": 5,
        "messages": [
            {"role": "user", "content": HALF},
            {"role": "assistant", "content": [{"type": "tool_use", "id": HALF, "name": HALF, "input": {HALF: HALF}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": HALF, "content": HALF}]},
        ],
    },
}


@pytest.mark.parametrize("path", list(HALVES))
async def test_half_characters_reach_no_tokenizer(path: str) -> None:
    async with door() as one:
        told = await one.post(path, HALVES[path])
        assert "no engine" in (await one.close()).failures[0].detail  # its prompt was made
    assert told.status_code == 503


class Fragile(HuggingFaceTokenizer):
    """Fails at some words, in no way that anybody has foreseen."""

    def __init__(self) -> None:
        super().__init__(tokenizer_json(), TEMPLATE)

    def encode_text(self, text: str) -> list[int]:
        if "poison" in text:
            raise ZeroDivisionError("unforeseen")
        return super().encode_text(text)


@pytest.mark.parametrize("path", ["chat/completions", "messages/count_tokens"])
async def test_a_prompt_that_cannot_be_made_is_no_failure_of_the_farm(path: str) -> None:
    async with door(Fragile()) as one:
        told = await one.post(path, {"messages": [{"role": "user", "content": "poison"}]})
        sampled = await one.close()
    assert (told.status_code, told.headers["x-should-retry"]) == (400, "false")
    assert "no prompt can be made of these messages: ZeroDivisionError: unforeseen" in told.json()["error"]["message"]
    assert (sampled.last, sampled.failed_calls, sampled.failures, sampled.outage_s) == ("", 0, (), 0)
