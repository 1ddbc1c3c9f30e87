"""The gateway towards an episode's agent: an ASGI application in three dialects.

The farm serves it through boxes' doors (`doorway`). It reads, bounds and answers requests; what they mean is the session's. No path leads
to another episode.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from envfarm.core.errors import EnvfarmError
from envfarm.core.ids import EpisodeId
from envfarm.core.json_parts import parts
from envfarm.gateway import problems
from envfarm.gateway.conversation import Asked, read_json
from envfarm.gateway.dialects.anthropic_messages import AnthropicMessages
from envfarm.gateway.dialects.dialect import Dialect
from envfarm.gateway.dialects.openai_chat import OpenAIChat
from envfarm.gateway.dialects.openai_responses import OpenAIResponses
from envfarm.gateway.flights import Flight
from envfarm.gateway.intake import Upload
from envfarm.gateway.problems import Problem, Refused
from envfarm.gateway.service import Gateway
from envfarm.gateway.session import MODEL, Session

HEARTBEAT = b": the model thinks\n\n"


def gateway_app(gateway: Gateway, episode: EpisodeId) -> Starlette:
    """The application of one episode, for whoever has its token.

    Each path is there with `/v1` and without: `/chat/completions`, `/responses`, `/messages`, `/messages/count_tokens`, `/models`.
    """
    anthropic = AnthropicMessages()
    doors: dict[str, Dialect] = {"chat/completions": OpenAIChat(), "responses": OpenAIResponses(), "messages": anthropic}
    posts: dict[str, Callable[[Request], Any]] = {path: _Door(gateway, episode, dialect).call for path, dialect in doors.items()}
    posts["messages/count_tokens"] = _Door(gateway, episode, anthropic).count
    models = _Door(gateway, episode, doors["chat/completions"]).models
    routes = []
    for version in ("", "/v1"):
        routes += [Route(f"{version}/{path}", endpoint, methods=["POST"]) for path, endpoint in posts.items()]
        routes.append(Route(f"{version}/models", models, methods=["GET"]))
    return Starlette(routes=routes)


class _Door:
    """One dialect's endpoints."""

    def __init__(self, gateway: Gateway, episode: EpisodeId, dialect: Dialect) -> None:
        self._gateway = gateway
        self._episode = episode
        self._dialect = dialect

    async def call(self, request: Request) -> Response:
        """Sample an answer."""
        try:
            session = self._session(request)
            asked = await self._asked(request, session)
            flight = session.ask(asked, dialect=self._dialect.name, request=_digest(self._dialect.name, asked, request))
            if asked.stream:
                return await self._streamed(flight, asked)
            return _json(self._dialect.whole(await flight.whole()))
        except (Refused, EnvfarmError) as e:
            return self._error(problems.of(e))
        except RecursionError:
            return self._error(Problem("invalid", "the request is nested too deeply"))

    async def count(self, request: Request) -> Response:
        """How many tokens a request's prompt would have."""
        try:
            session = self._session(request)
            return _json({"input_tokens": await session.count(await self._asked(request, session))})
        except (Refused, EnvfarmError) as e:
            return self._error(problems.of(e))
        except RecursionError:
            return self._error(Problem("invalid", "the request is nested too deeply"))

    async def models(self, request: Request) -> Response:
        """The one model that there is."""
        try:
            self._session(request)
        except Refused as e:
            return self._error(e.problem)
        row = {"id": MODEL, "object": "model", "created": 0, "owned_by": "envfarm"}
        return _json({"object": "list", "data": [row]})

    def _session(self, request: Request) -> Session:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            token = request.headers.get("x-api-key", "")
        return self._gateway.session(self._episode, token.strip())

    async def _asked(self, request: Request, session: Session) -> Asked:
        with session.reading() as upload:
            content = await self._content(request, upload)
            return await session.apart(len(content), partial(self._read, content))

    def _read(self, content: bytes) -> Asked:
        if sum(parts(content)) > self._gateway.options.request_parts:
            raise Refused("too_large", f"a request may have {self._gateway.options.request_parts} commas and brackets")
        asked = replace(self._dialect.read(_body(content)), size_bytes=len(content))
        asked.links  # noqa: B018 - here, where it holds nobody up
        return asked

    async def _content(self, request: Request, upload: Upload) -> bytes:
        most, within_s = self._gateway.options.request_bytes, self._gateway.options.read_s
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(within_s):
                async for chunk in request.stream():
                    if upload.size + len(chunk) > most:
                        raise Refused("too_large", f"a request may have {most} bytes")
                    chunks.append(chunk)
                    upload.take(len(chunk))
        except ClientDisconnect as e:
            raise Refused("invalid", "the request was not sent to its end") from e
        except TimeoutError as e:
            raise Refused("invalid", f"the request was not sent to its end in {within_s:g} s") from e
        return b"".join(chunks)

    async def _streamed(self, flight: Flight, asked: Asked) -> Response:
        try:
            async with asyncio.timeout(self._gateway.options.first_part_s):
                await flight.more(0)
        except TimeoutError:
            pass
        if flight.failure is not None and not flight.parts:
            raise flight.failure
        return StreamingResponse(self._events(flight, asked), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def _events(self, flight: Flight, asked: Asked) -> AsyncIterator[bytes]:
        beat_s = self._gateway.options.heartbeat_s
        while flight.head is None and not flight.over:
            if await _silent(flight, 0, beat_s):
                yield HEARTBEAT
        if flight.head is None:
            yield self._dialect.error_event(problems.of(flight.failure or RuntimeError()))
            return
        stream = self._dialect.stream(flight.head, asked)
        yield stream.begin()
        parts, told = flight.parts, 0
        while told < len(parts) or not flight.over:
            new = parts[told:]
            told += len(new)
            if new:
                yield b"".join(map(stream.part, new))
            elif await _silent(flight, told, beat_s):
                yield HEARTBEAT
        if flight.answered is None:
            yield stream.error(problems.of(flight.failure or RuntimeError()))
            return
        yield stream.end(flight.answered)

    def _error(self, problem: Problem) -> Response:
        headers = {"x-should-retry": "true" if problem.retryable else "false"}
        if problem.retryable:
            headers["Retry-After"] = str(problem.retry_after_s)
        return _json(self._dialect.error(problem), status=problem.status, headers=headers)


async def _silent(flight: Flight, seen: int, limit_s: float) -> bool:
    """Wait for news; whether there were none for so long."""
    try:
        async with asyncio.timeout(limit_s):
            await flight.more(seen)
    except TimeoutError:
        return True
    return False


def _body(content: bytes) -> dict[str, Any]:
    try:
        body = read_json(content)
    except (ValueError, RecursionError) as e:
        raise Refused("invalid", f"the body is not JSON: {e}") from e
    if not isinstance(body, dict):
        raise Refused("invalid", "the body is not a JSON object")
    return body


def _digest(dialect: str, asked: Asked, request: Request) -> bytes:
    """Equal for a request and its retries, streaming or not. A client's own key tells apart what it means to ask twice."""
    key = f"{dialect}\0{request.headers.get('idempotency-key', '')}\0"
    return hashlib.sha256(key.encode() + asked.identity).digest()


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    content = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(content, status, headers, media_type="application/json")
