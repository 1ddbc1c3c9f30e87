"""What the gateway adds to a call: the same conversation through it and straight to its engine, in turn, in one run.

The engine is the simulator, the gateway is served as the farm serves it, each in a process of its own; the agent is a bare HTTP client, so
that what is compared is not the clients. A direct call sends the prompt's ids and has as many tokens sampled.
"""

import asyncio
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envfarm.gateway.conversation import Message, Tool
from envfarm.gateway.hugging_face import HuggingFaceTokenizer
from envfarm.gateway.tokenizer import decode
from envfarm.testing.small_tokenizer import small_tokenizer
from tests.bench.gateway_process import LINE, reply_ids
from tests.bench.machine import Bench
from tests.bench.measure import Row

DIALECTS = ("openai_chat", "openai_responses", "anthropic_messages")
EPISODES = 16
TURNS = 8
SHORT, LONG = 16, 512
"""Tokens of an answer: their difference tells a token's part from a call's."""
SYSTEM = "You work in a sandbox. Call the tools, one call at a time, and finish when the work is done."
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
TARGET = "p50 <= 3 ms"


@dataclass
class Seen:
    """Milliseconds of the calls of one kind, pair by pair, and of the gateway's processor."""

    through: list[float] = field(default_factory=list)
    direct: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def added(self) -> list[float]:
        return [a - b for a, b in zip(self.through, self.direct, strict=True)]


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    return await asyncio.to_thread(_rows, bench.rounds(EPISODES))


def _rows(episodes: int) -> list[Row]:
    tokenizer = small_tokenizer()
    kinds = [(dialect, stream) for dialect in DIALECTS for stream in (False, True)]
    seen = {(kind, tokens): Seen() for kind in kinds for tokens in (SHORT, LONG)}
    with _process("engine") as (engine, _), _process("gateway", engine["url"], str((episodes + 1) * len(seen))) as (gateway, pid):
        opened = iter(gateway["episodes"])
        for number in range(episodes + 1):
            for ((dialect, stream), tokens), found in seen.items():
                access = next(opened)
                taken = _episode(
                    _Agent(dialect, gateway["url"] + access["path"], access["token"], tokenizer), engine["url"], pid, tokens, stream=stream
                )
                if number:
                    found.through += taken.through
                    found.direct += taken.direct
                    found.cpu += taken.cpu
    return [row for kind in kinds for row in _told(kind, seen[kind, SHORT], seen[kind, LONG])]


def _told(kind: tuple[str, bool], short: Seen, long: Seen) -> list[Row]:
    dialect, stream = kind
    name = f"{dialect}, {'streamed' if stream else 'whole'}"
    beside = f"straight to the engine, {'streamed' if stream else 'whole'}"
    # Answers of two lengths are no pairs: quantile is taken from quantile.
    per_token = [(b - a) * 1e3 / (LONG - SHORT) for a, b in zip(sorted(short.added), sorted(long.added), strict=True)]
    theirs = [(b - a) * 1e3 / (LONG - SHORT) for a, b in zip(sorted(short.direct), sorted(long.direct), strict=True)]
    cpu = (sum(long.cpu) - sum(short.cpu)) * 1e3 / len(long.cpu) / (LONG - SHORT)
    return [
        Row(f"{name}, {SHORT} tokens", "ms", short.through, beside, short.direct),
        Row(f"{name}, {LONG} tokens", "ms", long.through, beside, long.direct),
        Row(f"{name}: added to a call of {SHORT} tokens", "ms", short.added, target=TARGET),
        Row(f"{name}: added by each token", "us", per_token, "a token of the engine's own", theirs),
        Row(f"{name}: gateway's processor, a call of {SHORT} tokens", "ms", [sum(short.cpu) / len(short.cpu)]),
        Row(f"{name}: gateway's processor, each token", "us", [cpu]),
    ]


def _episode(agent: "_Agent", engine: str, pid: int, tokens: int, *, stream: bool) -> Seen:
    """One conversation, each of its calls made twice: through the gateway and straight, in changing order."""
    tokenizer = agent.tokenizer
    said = decode(tokenizer, reply_ids(tokens))
    straight = _Http(engine)
    seen = Seen()
    messages = [Message("system", SYSTEM)]
    for turn in range(TURNS):
        messages.append(Message("user", f"turn {turn}: {LINE * 8}"))
        asked = agent.body(messages, tokens, stream=stream)
        ordered = _order(tokenizer, messages, f"{agent.path}-{turn}", tokens, stream=stream)
        for through in (True, False) if turn % 2 else (False, True):
            if through:
                before = _cpu_ms(pid)
                seen.through.append(agent.http.post(agent.path, asked, agent.headers))
                seen.cpu.append(_cpu_ms(pid) - before)
            else:
                seen.direct.append(straight.post("/generate", ordered, {}))
        messages.append(Message("assistant", said))
    agent.http.close()
    straight.close()
    return seen


def _order(tokenizer: HuggingFaceTokenizer, messages: list[Message], request: str, tokens: int, *, stream: bool) -> bytes:
    ids = tokenizer.render(messages, [Tool("bash", "Runs a command.", SCHEMA)])
    sampling = {"max_new_tokens": tokens, "temperature": 1.0, "top_p": 1.0}
    return json.dumps({"rid": request, "input_ids": ids, "sampling_params": sampling, "return_logprob": True, "stream": stream}).encode()


class _Agent:
    """One episode's agent in one dialect's words."""

    def __init__(self, dialect: str, url: str, token: str, tokenizer: HuggingFaceTokenizer) -> None:
        self.tokenizer = tokenizer
        self.http = _Http(url)
        self.headers = {"Authorization": f"Bearer {token}"}
        paths = {"openai_chat": "/v1/chat/completions", "openai_responses": "/v1/responses", "anthropic_messages": "/v1/messages"}
        self.path = urlsplit(url).path + paths[dialect]
        self._dialect = dialect

    def body(self, messages: list[Message], tokens: int, *, stream: bool) -> bytes:
        """A request for an answer of so many tokens."""
        rows = [{"role": m.role, "content": m.text} for m in messages]
        asked: dict[str, Any] = {"model": "m", "stream": stream}
        function = {"name": "bash", "description": "Runs a command."}
        match self._dialect:
            case "openai_chat":
                tool: dict[str, Any] = {"type": "function", "function": {**function, "parameters": SCHEMA}}
                asked |= {"messages": rows, "max_tokens": tokens}
            case "openai_responses":
                tool = {"type": "function", **function, "parameters": SCHEMA, "strict": False}
                asked |= {"instructions": rows[0]["content"], "input": rows[1:], "max_output_tokens": tokens}
            case _:
                tool = {**function, "input_schema": SCHEMA}
                asked |= {"system": rows[0]["content"], "messages": rows[1:], "max_tokens": tokens}
        return json.dumps(asked | {"tools": [tool]}).encode()


class _Http:
    """One kept connection."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> float:
        """Milliseconds from the request to the last byte of its answer."""
        began = time.perf_counter()
        self._connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        response = self._connection.getresponse()
        answer = response.read()
        taken = (time.perf_counter() - began) * 1e3
        if response.status != http.client.OK or b'"error":{' in answer:
            raise RuntimeError(f"{path} was answered with {response.status}: {answer[:500]!r}")
        return taken

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@contextmanager
def _process(*words: str) -> Iterator[tuple[dict[str, Any], int]]:
    command = [sys.executable, "-m", "tests.bench.gateway_process", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            yield json.loads(running.stdout.readline()), running.pid
        finally:
            running.stdin.close()


def _cpu_ms(pid: int) -> float:
    """Of a process and its threads, in nanoseconds' steps: the schedulers' own account."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e6
