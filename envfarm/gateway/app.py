"""The gateway towards an episode's agent: an ASGI application in three dialects.

The farm serves it through boxes' doors (`doorway`). It reads, bounds and answers requests; what they mean is the session's. No path leads
to another episode.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

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
from envfarm.gateway.intake import Upload, is_large
from envfarm.gateway.limits import LONGEST_TURN_S, Pace
from envfarm.gateway.problems import Problem, Refused
from envfarm.gateway.service import Gateway
from envfarm.gateway.session import MODEL, Session

HEARTBEAT = b": the model thinks\n\n"
REST_S = 1.0
"""So long does a refusal wait for what else its client sends."""
DIALECTS: dict[str, Dialect] = {"chat/completions": OpenAIChat(), "responses": OpenAIResponses(), "messages": AnthropicMessages()}
VERSIONS = ("", "/v1")


def gateway_app(gateway: Gateway, episode: EpisodeId) -> Starlette:
    """The application of one episode, for whoever has its token.

    Each path is there with `/v1` and without: `/chat/completions`, `/responses`, `/messages`, `/messages/count_tokens`, `/models`.
    """
    doors = {path: _Door(gateway, episode, dialect) for path, dialect in DIALECTS.items()}
    posts: dict[str, Callable[[Request], Any]] = {path: door.call for path, door in doors.items()}
    posts["messages/count_tokens"] = doors["messages"].count
    models = doors["messages"].models
    routes = []
    for version in VERSIONS:
        routes += [Route(f"{version}/{path}", endpoint, methods=["POST"]) for path, endpoint in posts.items()]
        routes += [Route(f"{version}/{path}", models, methods=["GET"]) for path in ("models", "models/{name:path}")]
    handlers: dict[Any, Any] = {Refused: _failed, HTTPException: _no_such, Exception: _failed, EnvfarmError: _failed}
    return Starlette(routes=routes, middleware=[Middleware(_Paced, pace=Pace(gateway.options))], exception_handlers=handlers)


class _Paced:
    """Lets an episode's requests in as fast as they may come, and looks into none before."""

    def __init__(self, app: ASGIApp, *, pace: Pace) -> None:
        self._app = app
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app, wait_s = self._app, self._pace.turn(asyncio.get_running_loop().time())
        if wait_s is None:
            # Held, too: a refusal costs as much as many an answer, and a box has few connections.
            wait_s = LONGEST_TURN_S
            app = await _failed(Request(scope), Refused("busy", "the episode's requests come too fast"))
        if wait_s:
            await asyncio.sleep(wait_s)
        await app(scope, receive, send)


class _Door:
    """One dialect's endpoints. What they raise the application tells in the dialect's words."""

    def __init__(self, gateway: Gateway, episode: EpisodeId, dialect: Dialect) -> None:
        self._gateway = gateway
        self._episode = episode
        self._dialect = dialect

    async def call(self, request: Request) -> Response:
        """Sample an answer."""
        session = await self._session(request)
        asked = await self._asked(request, session)
        flight = session.ask(asked, dialect=self._dialect.name, request=_digest(self._dialect.name, asked, request))
        if asked.stream:
            return await self._streamed(session, flight, asked, request)
        return await self._whole(session, flight, request)

    async def count(self, request: Request) -> Response:
        """How many tokens a request's prompt would have."""
        session = await self._session(request)
        return _json({"input_tokens": await session.count(await self._asked(request, session))})

    async def models(self, request: Request) -> Response:
        """The one model that there is, by any name, in words that both OpenAI's and Anthropic's clients read."""
        await self._session(request)
        name = request.path_params.get("name")
        row = {"id": name or MODEL, "object": "model", "created": 0, "owned_by": "envfarm"}
        row |= {"type": "model", "display_name": MODEL, "created_at": "1970-01-01T00:00:00Z"}
        return _json(row if name else {"object": "list", "data": [row], "has_more": False, "first_id": MODEL, "last_id": MODEL})

    async def _session(self, request: Request) -> Session:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            token = request.headers.get("x-api-key", "")
        try:
            return self._gateway.session(self._episode, token.strip())
        except Refused:
            await _rest(request)
            raise

    async def _asked(self, request: Request, session: Session) -> Asked:
        async with session.reading() as upload:
            content = await self._content(request, upload)
            return await session.apart(partial(self._read, content), large=is_large(content))

    def _read(self, content: bytes) -> Asked:
        if sum(parts(content)) > self._gateway.options.request_parts:
            raise Refused("too_large", f"a request may have {self._gateway.options.request_parts} commas and brackets")
        with problems.of_the_request("the request cannot be read"):
            asked = replace(self._dialect.read(_body(content)), large=is_large(content))
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

    async def _whole(self, session: Session, flight: Flight, request: Request) -> Response:
        response = _json(self._dialect.whole(await flight.whole()))
        if not await request.is_disconnected():
            session.delivered(flight)
        return response

    async def _streamed(self, session: Session, flight: Flight, asked: Asked, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._gateway.options.first_part_s):
                await flight.more(0)
        except TimeoutError:
            pass
        if flight.failure is not None and not flight.parts:
            raise flight.failure
        events = self._events(session, flight, asked, request)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def _events(self, session: Session, flight: Flight, asked: Asked, request: Request) -> AsyncIterator[bytes]:
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
        gone = await request.is_disconnected()
        yield stream.end(flight.answered)
        if not gone:
            session.delivered(flight)


async def _silent(flight: Flight, seen: int, limit_s: float) -> bool:
    """Wait for news; whether there were none for so long."""
    try:
        async with asyncio.timeout(limit_s):
            await flight.more(seen)
    except TimeoutError:
        return True
    return False


async def _failed(request: Request, failure: Exception) -> Response:
    """A request came to nothing."""
    problem = problems.of(failure)
    return _error(request, problem, problem.status, {"Retry-After": str(problem.retry_after_s)} if problem.retryable else {})


async def _no_such(request: Request, failure: HTTPException) -> Response:
    """A path or a method that is not there."""
    await _rest(request)
    problem = Problem("unknown", f"there is no {request.method} {request.scope['path']}")
    return _error(request, problem, failure.status_code, failure.headers or {})


async def _rest(request: Request) -> None:
    """Let the rest of a refused request come, and drop it: an answer is lost with a connection that is closed while its client sends."""
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(REST_S):
            async for _ in request.stream():
                pass


def _error(request: Request, problem: Problem, status: int, headers: Mapping[str, str]) -> Response:
    """In the words of the path's dialect; on a path of none, of the client's."""
    path = request.scope["path"].removeprefix("/v1").strip("/")
    theirs = path.startswith("messages") or not {"anthropic-version", "x-api-key"}.isdisjoint(request.headers)
    dialect = DIALECTS.get(path, DIALECTS["messages" if theirs else "chat/completions"])
    return _json(dialect.error(problem), status=status, headers={"x-should-retry": str(problem.retryable).lower(), **headers})


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
