"""What a program sends and nobody can read is that request's fault, told in its dialect, and never a failure of the farm."""

import asyncio
import json
import socket
import time
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
from envfarm.testing.served import served
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


@pytest.mark.parametrize(("path", "token", "status"), [("/v1/nothing", "", b"404"), ("/v1/messages", "wrong", b"401")])
async def test_a_refusal_is_not_lost_while_its_client_sends(path: str, token: str, status: bytes) -> None:
    async with door() as one, served(gateway_app(one.gateway, EPISODE)) as url:
        port, body = int(url.rpartition(":")[2]), b"x" * 3_000_000

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                head = (
                    f"POST {path} HTTP/1.1",
                    "Host: x",
                    "Connection: close",
                    f"Authorization: Bearer {token}",
                    f"Content-Length: {len(body)}",
                )
                connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
                time.sleep(0.1)  # without waiting for the rest, the refusal is out and the connection closed by now
                connection.sendall(body)
                return connection.recv(1000).split()[1]

        assert await asyncio.to_thread(ask) == status


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


OPENAI: dict[str, str] = {}
ANTHROPIC = {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/v1/chat/completions", OPENAI, 405),
        ("GET", "/v1/messages", OPENAI, 405),
        ("POST", "/v1/embeddings", OPENAI, 404),
        ("POST", "/v1/complete", ANTHROPIC, 404),
        ("POST", "/v1/messages/batches", OPENAI, 404),
        ("GET", "/v1/models", {"authorization": "Bearer wrong"}, 401),
        ("GET", "/v1/models", {"authorization": "Bearer wrong", **ANTHROPIC}, 401),
    ],
)
async def test_every_error_has_the_clients_own_shape(method: str, path: str, headers: dict[str, str], status: int) -> None:
    async with door() as one:
        told = await one.client.request(method, path, headers=headers)
    body = told.json()
    anthropics = headers.get("anthropic-version") or "messages" in path
    assert (told.status_code, body.get("type"), told.headers["x-should-retry"]) == (status, "error" if anthropics else None, "false")
    assert body["error"]["retryable"] is False
    assert status != 405 or told.headers["allow"] == "POST"


@pytest.mark.parametrize("path", list(HALVES))
async def test_a_number_that_no_float_holds_is_refused_by_its_name(path: str) -> None:
    async with door() as one:
        hi = {"role": "user", "content": "hi"}
        told = await one.post(path, {"input": "hi", "messages": [hi], "temperature": 10**400})
    assert told.status_code == 400
    assert "temperature: a number" in told.json()["error"]["message"]


async def test_an_agent_may_ask_for_the_model_by_any_name() -> None:
    async with door() as one:
        for name in ("policy", "Qwen/Qwen3-8B"):
            told = (await one.client.get(f"/v1/models/{name}")).json()
            assert (told["id"], told["object"], told["type"]) == (name, "model", "model")


@pytest.mark.parametrize(("path", "kind"), [("messages", "error"), ("chat/completions", None), ("nowhere", None)])
async def test_requests_that_come_too_fast_are_not_looked_into_and_nobodys_failure(path: str, kind: str | None) -> None:
    body = {"max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    async with door(requests_per_s=0.01, requests_burst=2) as one:
        first = [(await one.post("messages/count_tokens", body)).status_code, (await one.post("nowhere", b"")).status_code]
        told = await one.post(path, b"no JSON")
        sampled = await one.close()
    assert (first, told.status_code, told.headers["retry-after"], told.headers["x-should-retry"]) == ([200, 404], 429, "1", "true")
    assert (told.json().get("type"), told.json()["error"]["retryable"]) == (kind, True)
    assert (sampled.last, sampled.failed_calls, sampled.outage_s) == ("", 0, 0)
