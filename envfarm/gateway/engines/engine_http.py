"""Calls to engines over HTTP with bounds on time and size: JSON whole, or pieces of it as server-sent events.

Used by the adapters alone. Whatever an engine does on a bad day comes out as `PolicyError`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

import aiohttp

from envfarm.core.context_overflow import says_too_long
from envfarm.core.engine import EngineSpec
from envfarm.core.errors import ContextExhausted, PolicyError
from envfarm.core.frozen import Frozen

REFUSAL_BYTES = 1 << 20
AFTER_END_S = 0.2
PIECE_BYTES = 1 << 20
"""Of an answer that are read ahead before the engine is made to wait."""
Json = dict[str, Any]


class Patience(Frozen):
    """How long and how much of an engine's answer is waited for."""

    connect_s: float = 10.0
    silence_s: float = 600.0
    """From one byte to the next; the first one waits for the engine's queue and its reading of the prompt."""
    whole_s: float = 3600.0
    """For a call, from its beginning to its end."""
    answer_bytes: int = 256 << 20
    """Routed experts of a long completion take most of it."""


def engine_session() -> aiohttp.ClientSession:
    """What calls engines, shared by all of them: it keeps connections, as many as there are calls, and asks no proxy.

    Made in a running event loop, and closed by who made it.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=PIECE_BYTES,
    )


class EngineHttp:
    """Speaks to one engine."""

    def __init__(self, spec: EngineSpec, http: aiohttp.ClientSession, patience: Patience) -> None:
        key = spec.api_key.get_secret_value()
        # Nothing packed: a few KiB of it can be GiB, before anybody counts.
        self._headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        self._url = spec.url.rstrip("/")
        self._name = spec.name
        self._http = http
        self._patience = patience

    async def whole(self, path: str, body: Mapping[str, Any]) -> Json:
        """POST, and the one JSON object that comes back."""
        async with self._post(path, body) as response:
            return self._object(b"".join([chunk async for chunk in self._bounded(response, self._patience.answer_bytes)]))

    async def pieces(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Json]:
        """POST, and each event's JSON object up to `[DONE]`. An answer that ends without it is cut off: `PolicyError`."""
        async with self._post(path, body) as response:
            held: list[bytes] = []
            chunks = self._bounded(response, self._patience.answer_bytes)
            async for chunk in chunks:
                held.append(chunk)
                if b"\n" not in chunk:
                    continue
                *lines, rest = b"".join(held).split(b"\n")
                held = [rest]
                for data in _data(lines):
                    if data == b"[DONE]":
                        await _to_its_end(chunks)
                        return
                    yield self._object(data)
        raise PolicyError(f"engine {self._name} ended its answer before it was over")

    @asynccontextmanager
    async def _post(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        p = self._patience
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=p.connect_s, sock_read=p.silence_s)
        content = json.dumps(body, separators=(",", ":")).encode()
        try:
            async with self._http.post(
                self._url + path, data=content, headers=self._headers, timeout=timeout, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise await self._refusal(response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as e:
            raise PolicyError(f"engine {self._name} does not answer: {type(e).__name__}{f': {e}' if str(e) else ''}") from e

    async def _bounded(self, response: aiohttp.ClientResponse, most: int) -> AsyncIterator[bytes]:
        size = 0
        if (packed := response.headers.get("content-encoding", "identity")) != "identity":
            raise PolicyError(f"engine {self._name} answers in the encoding {packed[:20]!r}, which was not requested")
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > most:
                raise PolicyError(f"engine {self._name} answers with more than {most} bytes")
            yield chunk

    async def _refusal(self, response: aiohttp.ClientResponse) -> Exception:
        said = ""
        async for chunk in self._bounded(response, REFUSAL_BYTES):
            said += chunk.decode("utf-8", "replace")
        if says_too_long(response.status, said):
            return ContextExhausted("the conversation is too long for the model")
        return PolicyError(f"engine {self._name} answers with status {response.status}: {said[:300]}")

    def _object(self, data: bytes) -> Json:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as e:
            raise PolicyError(f"engine {self._name} answers with what is not JSON: {data[:100]!r}") from e
        if not isinstance(value, dict):
            raise PolicyError(f"engine {self._name} answers with {type(value).__name__}, not an object")
        if value.get("error"):
            raise PolicyError(f"engine {self._name} broke off: {str(value['error'])[:300]}")
        return value


def whole_numbers(value: Any, what: str) -> tuple[int, ...]:
    """A list of ids. Raises `PolicyError`."""
    if not isinstance(value, list) or not all(type(v) is int for v in value):
        raise PolicyError(f"the engine gave no {what}")
    return tuple(value)


def numbers(value: Any, what: str) -> tuple[float, ...]:
    """A list of numbers. Raises `PolicyError`."""
    if not isinstance(value, list) or not all(type(v) in (int, float) for v in value):
        raise PolicyError(f"the engine gave no {what}")
    return tuple(float(v) for v in value)


async def _to_its_end(chunks: AsyncIterator[bytes]) -> None:
    """Read what is left of an answer that is known: only then can its connection carry the next call. Whoever holds it open loses it."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(AFTER_END_S):
            async for _ in chunks:
                pass


def _data(lines: list[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line.startswith(b"data:"):
            yield line.removeprefix(b"data:").strip()
