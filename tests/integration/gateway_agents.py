"""Agents that speak to the gateway through the real clients, each keeping its history in its own dialect's words."""

import asyncio
import json
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, partial
from typing import Any, ClassVar

import anthropic
import openai
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from envfarm.controller.system_clock import SystemClock
from envfarm.core.engine import EngineSpec
from envfarm.core.ids import EpisodeId
from envfarm.core.program import Allowance
from envfarm.gateway.app import gateway_app
from envfarm.gateway.engines.engine_http import engine_session
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.service import Gateway
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.engine_simulator import loopback
from envfarm.testing.small_tokenizer import TEMPLATE, small_tokenizer

Row = dict[str, Any]
SCHEMA: Row = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


@dataclass(frozen=True)
class Access:
    """What an episode's agent gets."""

    token: str
    path: str
    """Below the gateway's address. OpenAI's clients want `/v1` behind it."""


@dataclass
class Served:
    """A gateway on a port of its own, each episode below a path of its own."""

    gateway: Gateway
    url: str
    blobs: MemoryBlobs

    def open(self, episode: str, **allowed: Any) -> Access:
        """Let an episode's agent call: as often as it likes, where nothing else is said."""
        return Access(self.gateway.open(EpisodeId(episode), Allowance(**{"calls": 2_000, **allowed})), f"/{episode}")


@asynccontextmanager
async def served(*engines: EngineSpec, options: GatewayOptions | None = None, template: str = TEMPLATE) -> AsyncIterator[Served]:
    """The gateway and its applications in one loop, as the farm serves them; the clients come over real sockets."""
    blobs = MemoryBlobs()
    async with engine_session() as http:
        gateway = Gateway(small_tokenizer(template=template), http, clock=SystemClock(), blobs=blobs, options=options)
        gateway.set_engines(engines)
        listener = loopback()
        config = uvicorn.Config(_by_episode(gateway), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield Served(gateway, f"http://127.0.0.1:{listener.getsockname()[1]}", blobs)
        finally:
            await gateway.aclose()
            server.should_exit = True
            await serving
            listener.close()


def _by_episode(gateway: Gateway) -> ASGIApp:
    app_of = cache(partial(gateway_app, gateway))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        _, episode, below = scope["path"].split("/", 2)
        await app_of(EpisodeId(episode))({**scope, "path": f"/{below}"}, receive, send)

    return app


@dataclass
class Answer:
    """What an agent got."""

    text: str
    calls: list[tuple[str, str, str]]
    """Id, name, arguments as JSON text."""
    cut: bool
    rows: list[Row] = field(default_factory=list)
    """As the history takes them."""


class Speaker(ABC):
    """One conversation of an agent."""

    dialect: ClassVar[str]

    def __init__(self, url: str, token: str, *, retries: int = 0) -> None:
        self.url = url
        self.token = token
        self.retries = retries
        self.history: list[Row] = []
        self.javascript = False
        """Whether it reads its calls' arguments and writes them again as a client in JavaScript does."""
        self.strips = False
        """Whether it sends answers back without the white space around them."""
        self.system = "You work in a box. <|im_start|>system is only text."

    @abstractmethod
    async def ask(self, *, stream: bool, **wishes: Any) -> Answer: ...

    @abstractmethod
    def tools_answer(self, answer: Answer, texts: Sequence[str]) -> None: ...

    @abstractmethod
    async def aclose(self) -> None: ...

    def user(self, text: str) -> None:
        self.history.append({"role": "user", "content": text})

    def heard(self, answer: Answer) -> None:
        rows = [stripped(row) for row in answer.rows] if self.strips else answer.rows
        self.history += [in_javascript(row) for row in rows] if self.javascript else rows

    def is_assistant(self, row: Row) -> bool:
        return row.get("role") == "assistant"

    def change_last_answer(self) -> None:
        """Alter what the assistant said last."""
        at = max(n for n, row in enumerate(self.history) if self.is_assistant(row))
        self.history[at] = {"role": "assistant", "content": "I said something else."}

    def drop_first_exchange(self) -> None:
        """Leave out the first user's words and what follows up to the next user's own words."""
        own = [n for n, row in enumerate(self.history) if row.get("role") == "user" and isinstance(row.get("content"), str)]
        del self.history[own[0] : own[1]]


class ChatSpeaker(Speaker):
    dialect = "openai_chat"

    def __init__(self, url: str, token: str, *, retries: int = 0) -> None:
        super().__init__(url, token, retries=retries)
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=retries)
        self.tools: Any = [{"type": "function", "function": {"name": "bash", "description": "<|im_end|>", "parameters": SCHEMA}}]

    async def ask(self, *, stream: bool, **wishes: Any) -> Answer:
        asked: Any = {"model": "m", "messages": [{"role": "system", "content": self.system}, *self.history], "tools": self.tools, **wishes}
        if stream:
            async with self.client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as events:
                async for _ in events:
                    pass
                # The stream's own reading refuses answers that were cut; what it put together is what an agent keeps.
                made = events.current_completion_snapshot
            choice: Any = made.choices[0]
        else:
            choice = (await self.client.chat.completions.create(**asked)).choices[0]
        row = choice.message.model_dump()
        if not row.get("tool_calls"):
            row.pop("tool_calls", None)
        calls = [(c.id, c.function.name, c.function.arguments) for c in choice.message.tool_calls or []]
        return Answer(choice.message.content or "", calls, choice.finish_reason == "length", [row])

    def tools_answer(self, answer: Answer, texts: Sequence[str]) -> None:
        for (call_id, _, _), text in zip(answer.calls, texts, strict=True):
            self.history.append({"role": "tool", "tool_call_id": call_id, "content": text})

    async def aclose(self) -> None:
        await self.client.close()


class ResponsesSpeaker(Speaker):
    dialect = "openai_responses"

    def __init__(self, url: str, token: str, *, retries: int = 0) -> None:
        super().__init__(url, token, retries=retries)
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token, max_retries=retries)
        self.tools: Any = [{"type": "function", "name": "bash", "description": "<|im_end|>", "parameters": SCHEMA, "strict": False}]

    async def ask(self, *, stream: bool, **wishes: Any) -> Answer:
        wishes = {{"max_tokens": "max_output_tokens"}.get(k, k): v for k, v in wishes.items() if k != "stop"}
        asked: Any = {"model": "m", "instructions": self.system, "input": self.history, "tools": self.tools, **wishes}
        if stream:
            made: Any = None
            async for event in await self.client.responses.create(**asked, stream=True):
                if event.type in ("response.completed", "response.incomplete"):
                    made = event.response
        else:
            made = await self.client.responses.create(**asked)
        calls = [(i.call_id, i.name, i.arguments) for i in made.output if i.type == "function_call"]
        rows = [i.model_dump(exclude_none=True) for i in made.output]
        return Answer(made.output_text, calls, made.status == "incomplete", rows)

    def tools_answer(self, answer: Answer, texts: Sequence[str]) -> None:
        for (call_id, _, _), text in zip(answer.calls, texts, strict=True):
            self.history.append({"type": "function_call_output", "call_id": call_id, "output": text})

    def is_assistant(self, row: Row) -> bool:
        return row.get("role") == "assistant" or row.get("type") in ("function_call", "reasoning")

    def change_last_answer(self) -> None:
        at = max(n for n, row in enumerate(self.history) if self.is_assistant(row))
        if self.history[at].get("type") == "function_call":
            self.history[at] = {**self.history[at], "arguments": '{"command": "something else"}'}
        else:
            super().change_last_answer()

    async def aclose(self) -> None:
        await self.client.close()


class MessagesSpeaker(Speaker):
    dialect = "anthropic_messages"

    def __init__(self, url: str, token: str, *, retries: int = 0) -> None:
        super().__init__(url, token, retries=retries)
        self.client = anthropic.AsyncAnthropic(base_url=url, api_key=token, max_retries=retries)
        self.tools: Any = [{"name": "bash", "description": "<|im_end|>", "input_schema": SCHEMA}]
        self.asked = 0

    async def ask(self, *, stream: bool, **wishes: Any) -> Answer:
        if stop := wishes.pop("stop", None):
            wishes["stop_sequences"] = stop
        self.asked += 1
        # As command line agents do: a line that changes from call to call, and cache hints that wander.
        billing = {"type": "text", "text": f"x-anthropic-billing-header: call={self.asked}"}
        system = [billing, {"type": "text", "text": self.system, "cache_control": {"type": "ephemeral"}}]
        messages = [*self.history[:-1], _hinted(self.history[-1])]
        asked: Any = {"model": "m", "system": system, "messages": messages, "tools": self.tools, "max_tokens": 4000, **wishes}
        if stream:
            async with self.client.messages.stream(**asked) as events:
                made: Any = await events.get_final_message()
        else:
            made = await self.client.messages.create(**asked)
        calls = [(b.id, b.name, str(b.input)) for b in made.content if b.type == "tool_use"]
        text = "".join(b.text for b in made.content if b.type == "text")
        row = {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in made.content]}
        return Answer(text, calls, made.stop_reason == "max_tokens", [row])

    def tools_answer(self, answer: Answer, texts: Sequence[str]) -> None:
        results = [
            {"type": "tool_result", "tool_use_id": call_id, "content": [{"type": "text", "text": text}]}
            for (call_id, _, _), text in zip(answer.calls, texts, strict=True)
        ]
        self.history.append({"role": "user", "content": results})

    async def aclose(self) -> None:
        await self.client.close()


SPEAKERS: dict[str, type[Speaker]] = {s.dialect: s for s in (ChatSpeaker, ResponsesSpeaker, MessagesSpeaker)}


def _hinted(row: Row) -> Row:
    content = row["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**row, "content": [*blocks[:-1], {**blocks[-1], "cache_control": {"type": "ephemeral"}}]}


def stripped(value: Any, key: str = "") -> Any:
    """Data with its words stripped."""
    match value:
        case dict():
            return {k: stripped(v, k) for k, v in value.items()}
        case list():
            return [stripped(v) for v in value]
        case str() if key in ("content", "text"):
            return value.strip()
        case _:
            return value


def in_javascript(value: Any, key: str = "") -> Any:
    """Data, and JSON text under the key `arguments`, behind JavaScript's `JSON.parse` and `JSON.stringify`."""
    match value:
        case dict():
            return {k: in_javascript(v, k) for k, v in value.items()}
        case list():
            return [in_javascript(v) for v in value]
        case str() if key == "arguments":
            return json.dumps(in_javascript(json.loads(value)), separators=(",", ":"), ensure_ascii=False)
        case int() | float() if not isinstance(value, bool) and float(value).is_integer() and abs(value) < 1e21:
            return int(Decimal(repr(float(value))))
        case _:
            return value


WORDS = (
    "look", "at", "the", "file", "größer", "日本語", "😀", "👩‍👩‍👧", "e\N{COMBINING ACUTE ACCENT}",
    "<|im_end|>", "<|im_start|>user", "\n\n",
    "def f(x):\n    return x", "{}", "русский", "</tool_call>", "\N{REPLACEMENT CHARACTER}", "\t", "a<|endoftext|>b", "<tool", "0",
)  # fmt: skip


def words(rng: random.Random, most: int = 12) -> str:
    """Something to say that is hard on tokenizers."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most))) + rng.choice(["", ".", "\n"])


def tool_text(rng: random.Random) -> str:
    """A tool call as the model writes it, one in six malformed."""
    arguments = rng.choice(
        [
            '{"command": "ls -la"}',
            '{"command":"echo \\"größe 😀\\""}',
            '{ "command" : "a<|im_end|>b", "n": [1, 2.5, null] }',
            '{"command": "ls", "timeout": 30.0, "n": [1e3, -0.0, 0.1, 1E21, 1152921504606846976, true]}',
        ]
    )
    inside = f'{{"name": "bash", "arguments": {arguments}}}'
    if rng.random() < 1 / 6:
        inside = rng.choice(["{not json", '{"name": "bash"}', inside[:-2], '{"name": "bash", "arguments": {"n": NaN}}'])
    return f"<tool_call>\n{inside}\n</tool_call>"
