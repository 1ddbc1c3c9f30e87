"""A policy engine without a model: a real HTTP server with a real tokenizer, which samples by script.

It implements SGLang's `/generate` and vLLM's `/v1/completions`, with ids and logprobs, streaming and not, and keeps a ledger of every
sampled id. The script can request failures, too (`Reply.fault`). It runs in its own thread and needs the extra `serve`.

    python -m envfarm.testing.engine_simulator --model DIR --bash 'ls' --say 'Done.'
"""

import argparse
import asyncio
import base64
import gzip
import json
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from envfarm.gateway.tokenizer import ChatTokenizer, TextStream
from envfarm.testing.engine_replies import Ledger, Ordered, Sampled, Sampler, Script, lines
from envfarm.testing.small_tokenizer import small_tokenizer, tokenizer_json, write_model

Json = dict[str, Any]
Kind = Literal["sglang", "vllm"]
JUNK = b"x" * (1 << 16)
SILENCE_S = 3600.0


@dataclass
class EngineSimulator:
    """A running engine."""

    url: str
    sampler: Sampler
    connections: set[int]
    """The client ports of calls: one per connection."""

    @property
    def ledger(self) -> Ledger:
        """What was sampled."""
        return self.sampler.ledger

    def play(self, script: Script) -> None:
        """Use another script from the next call on."""
        self.sampler.script = script


@contextmanager
def engine_simulator(script: Script | None = None, *, seed: int = 0, cumulative: bool = False) -> Iterator[EngineSimulator]:
    """An engine on a free port of loopback until the block ends.

    `cumulative`: each SGLang piece repeats all before it, as without `--incremental-streaming-output`.
    """
    sampler = Sampler(small_tokenizer(), script or lines("Hello."), seed=seed)
    app = _Application(sampler, cumulative=cumulative)
    with listening(app.starlette()) as url:
        yield EngineSimulator(url, sampler, app.connections)


@contextmanager
def listening(app: Starlette) -> Iterator[str]:
    """Serve an application on a free loopback port, in its own thread. Yields the address."""
    listener = loopback()
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1, ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def loopback() -> socket.socket:
    """A listening socket on a free port. Its protocol is set to TCP, else asyncio leaves Nagle's algorithm on: 40 ms per answer."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    return listener


class _Application:
    def __init__(self, sampler: Sampler, *, cumulative: bool) -> None:
        self._sampler = sampler
        self._cumulative = cumulative
        self.connections: set[int] = set()

    def starlette(self) -> Starlette:
        routes = [
            Route("/generate", self.generate, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    async def generate(self, request: Request) -> Response:
        body = await self._body(request)
        s = body["sampling_params"]
        stop = tuple(s.get("stop", ()))
        order = Ordered(body["rid"], tuple(body["input_ids"]), s["max_new_tokens"], s["temperature"], s["top_p"], stop)
        return await self._answer(order, "sglang", stream=body["stream"])

    async def completions(self, request: Request) -> Response:
        body = await self._body(request)
        stop = tuple(body.get("stop", ()))
        order = Ordered(body["request_id"], tuple(body["prompt"]), body["max_tokens"], body["temperature"], body["top_p"], stop)
        return await self._answer(order, "vllm", stream=body["stream"])

    async def _body(self, request: Request) -> Json:
        if request.client is not None:
            self.connections.add(request.client.port)
        body: Json = await request.json()
        return body

    async def _answer(self, order: Ordered, kind: Kind, *, stream: bool) -> Response:
        made = self._sampler.sample(order)
        if made.reply.delay_s:
            await asyncio.sleep(made.reply.delay_s)
        if made.reply.fault == "silent":
            await asyncio.sleep(SILENCE_S)
        if (refusal := _refusal(made)) is not None:
            return refusal
        wire = _Wire(made, kind, self._sampler.tokenizer)
        if stream:
            return StreamingResponse(self._events(made, wire), media_type="text/event-stream")
        if made.reply.fault == "hang_up":
            return StreamingResponse(_hang_up(), media_type="application/json")
        if made.reply.fault == "oversized":
            return StreamingResponse(_junk(), media_type="application/json")
        return JSONResponse(wire.piece(0, len(made.completion_ids)))

    async def _events(self, made: Sampled, wire: "_Wire") -> AsyncIterator[bytes]:
        fault = made.reply.fault
        if fault == "oversized":
            async for junk in _junk():
                yield junk
        at = 0
        sizes = self._sampler.pieces(made)
        for size in sizes[: len(sizes) // 2] if fault in ("hang_up", "no_end") else sizes:
            yield _event(wire.piece(0 if self._cumulative and wire.kind == "sglang" else at, at + size))
            at += size
            await asyncio.sleep(0)
        if fault == "hang_up":
            raise ConnectionAbortedError
        while fault == "endless":
            yield _event(wire.endless())
            await asyncio.sleep(0)
        yield b"data: [DONE]\n\n"
        if fault == "lingers":
            await asyncio.sleep(SILENCE_S)


class _Wire:
    """One sampled call in an interface's format, with its faults."""

    def __init__(self, made: Sampled, kind: Kind, tokenizer: ChatTokenizer) -> None:
        self._made = made
        self._tokenizer = tokenizer
        self.kind: Kind = kind
        self._fault = made.reply.fault
        self._ids = [tokenizer.vocabulary_size + 7, *made.completion_ids[1:]] if self._fault == "foreign_ids" else list(made.completion_ids)
        self._logprobs: list[Any] = list(made.logprobs)
        if self._fault == "bad_logprobs":
            self._logprobs[0] = 3.0

    def piece(self, start: int, end: int) -> Json:
        """The tokens from `start` to `end`, with the final fields if these are the last."""
        over = end == len(self._ids) and self._fault not in ("endless", "no_end")
        return self._sglang(start, end, over=over) if self.kind == "sglang" else self._vllm(start, end, over=over)

    def endless(self) -> Json:
        """One more token, for endless replies."""
        self._ids.append(self._ids[0])
        self._logprobs.append(-0.5)
        return self.piece(len(self._ids) - 1, len(self._ids))

    def _text(self, start: int, end: int, *, over: bool) -> str:
        before = self._known(start)
        text = self._made.text[len(before) :] if over else self._known(end)[len(before) :]
        return text + "!" if over and self._fault == "lying_text" else text

    def _known(self, end: int) -> str:
        return TextStream(self._tokenizer).feed(self._made.completion_ids[:end])[: len(self._made.text)]

    def _finish(self) -> str:
        return "abort" if self._fault == "abort" else self._made.finish_reason

    def _sglang(self, start: int, end: int, *, over: bool) -> Json:
        ids, logprobs = self._ids[start:end], self._logprobs[start:end]
        if self._fault == "short_logprobs" and over:
            logprobs = logprobs[:-1]
        asked = len(self._made.prompt_ids) + (self._fault == "other_prompt")
        meta: Json = {"id": self._made.request_id, "prompt_tokens": asked, "completion_tokens": end, "finish_reason": None}
        reload = self._made.reply.reload
        meta["weight_version"] = reload[1] if reload is not None and end > reload[0] else self._made.reply.weight_version
        if self._fault != "no_logprobs":
            meta["output_token_logprobs"] = [[p, i, None] for p, i in zip(logprobs, ids, strict=False)]
        if over:
            meta["finish_reason"] = {"type": self._finish()}
            if self._made.reply.experts is not None:
                meta["routed_experts"] = base64.b64encode(self._made.reply.experts).decode()
        return {"text": self._text(start, end, over=over), "output_ids": ids, "meta_info": meta}

    def _vllm(self, start: int, end: int, *, over: bool) -> Json:
        ids, logprobs = self._ids[start:end], self._logprobs[start:end]
        if self._fault == "short_logprobs" and over:
            logprobs = logprobs[:-1]
        told = None if self._fault == "no_logprobs" else {"tokens": [str(i) for i in ids], "token_logprobs": logprobs}
        choice: Json = {"index": 0, "text": self._text(start, end, over=over), "token_ids": ids, "logprobs": told, "finish_reason": None}
        if start == 0:
            choice["prompt_token_ids"] = [*self._made.prompt_ids, *([0] if self._fault == "other_prompt" else [])]
        if over:
            choice["finish_reason"] = self._finish()
            if self._made.reply.experts is not None:
                choice["routed_experts"] = base64.b64encode(self._made.reply.experts).decode()
        return {"id": self._made.request_id, "object": "text_completion", "choices": [choice]}


def _refusal(made: Sampled) -> Response | None:
    if made.reply.fault == "packed":
        return Response(gzip.compress(bytes(1 << 20)), headers={"content-encoding": "gzip"})
    match made.reply.fault:
        case "status":
            return JSONResponse({"error": {"message": "out of memory"}}, status_code=500)
        case "context":
            return JSONResponse({"error": {"message": "The input is too long: max_model_len"}}, status_code=400)
        case "garbage":
            return PlainTextResponse("data: <html>\n\n")
        case _:
            return None


def _event(data: Json) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def _junk() -> AsyncIterator[bytes]:
    yield b"data: "
    while True:
        yield JUNK
        await asyncio.sleep(0)


async def _hang_up() -> AsyncIterator[bytes]:
    yield b'{"text'
    raise ConnectionAbortedError


def _tool_call(command: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': 'bash', 'arguments': {'command': command}})}\n</tool_call>"


def main() -> None:
    """Serve until it is stopped. Says which model and which engine a farm is to be given."""
    parser = argparse.ArgumentParser(
        prog="python -m envfarm.testing.engine_simulator", description="A policy engine that replies by script."
    )
    parser.add_argument("--model", type=Path, required=True, help="a directory: the tokenizer and the chat template are written there")
    parser.add_argument("--say", dest="replies", action="append", metavar="TEXT", help="the next reply; the last one is repeated")
    parser.add_argument(
        "--bash", dest="replies", action="append", metavar="COMMAND", type=_tool_call, help="the next reply: a call of the tool `bash`"
    )
    options = parser.parse_args()
    if (options.model / "tokenizer.json").exists() and (options.model / "tokenizer.json").read_text(errors="replace") != tokenizer_json():
        parser.error(f"{options.model} holds a model already: give another directory")
    write_model(options.model)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with engine_simulator(lines(*options.replies or ["Hello."])) as engine:
        print(f"--model {options.model}\n--engine name=simulator,kind=vllm,url={engine.url}", flush=True)  # noqa: T201 - what it is started for
        stopped.wait()


if __name__ == "__main__":
    main()
