"""One request to an OpenAI-compatible chat endpoint, with bounded retries.

The HTTP client is passed in and shared, so that a run's episodes share connections. The content of an answer is left to `chat_reply`.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import Field

from envfarm.core.errors import ContextExhausted, PolicyError
from envfarm.core.frozen import Frozen

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
TOO_LONG = frozenset({400, 413, 422})
# Every engine words it differently, and none has a separate error code for it.
TOO_LONG_WORDS = (
    "context_length_exceeded",
    "context length",
    "maximum context",
    "max_model_len",
    "too many tokens",
    "prompt is too long",
    "input is too long",
    "longer than the model",
)
ANSWER_BYTES = 64 << 20
"""A larger answer is refused: token ids and logprobs of a long completion take a few MiB."""
Sleep = Callable[[float], Awaitable[None]]


class Patience(Frozen):
    """How long to wait for an endpoint. Bounded, since whoever requests episodes sets it, and a box is occupied meanwhile."""

    timeout_s: float = Field(default=600.0, gt=0, le=3600)
    """For one try, including connecting."""
    connect_s: float = Field(default=30.0, gt=0, le=600)
    """For connecting. If that takes longer, the endpoint is down, which differs from a model that thinks."""
    tries: int = Field(default=5, ge=1, le=20)
    first_wait_s: float = Field(default=1.0, ge=0, le=60)
    longest_wait_s: float = Field(default=60.0, ge=0, le=60)
    """Also the longest Retry-After that is respected."""


class ChatClient:
    """Posts to one endpoint."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        *,
        headers: Mapping[str, str],
        patience: Patience,
        seed: int = 0,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._headers = dict(headers)
        self._patience = patience
        self._random = random.Random(seed)  # noqa: S311 - jitter for retries, not a secret
        self._sleep = sleep
        self._now = now
        self._called_at = 0.0
        self._try_began: float | None = 0.0

    @property
    def outage_s(self) -> float:
        """See `TellsOutages.outage_s`: the time before the last try, which itself is not counted."""
        return (self._now() if self._try_began is None else self._try_began) - self._called_at

    async def complete(self, body: Mapping[str, Any]) -> Any:
        """The decoded answer to a completion request.

        Raises `ContextExhausted` if the conversation is too long for the model, `PolicyError` if the endpoint refuses or is still
        unavailable after the last try.
        """
        problem = "no try was made"
        self._called_at = self._now()
        for attempt in range(self._patience.tries):
            self._try_began = self._now() if attempt else self._called_at
            try:
                response = await self._post(body)
            except httpx.HTTPError as e:
                problem, told_s = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__, None
            else:
                if response.status_code == httpx.codes.OK:
                    try:
                        return response.json()
                    except ValueError:
                        problem, told_s = f"an answer that is not JSON: {response.text[:200]!r}", None
                elif response.status_code in RETRIED:
                    problem, told_s = _status(response), _retry_after_s(response)
                else:
                    raise _refusal(self._url, response)
            self._try_began = None
            if attempt + 1 < self._patience.tries:
                await self._sleep(self._wait_s(attempt, told_s))
        raise PolicyError(f"{self._url} did not answer in {self._patience.tries} tries; the last: {problem}")

    async def _post(self, body: Mapping[str, Any]) -> httpx.Response:
        # The timeout covers the whole try: httpx's own counts between bytes, so a server that sends slowly could hold it forever.
        # Compression is refused: a few KiB can expand to GiB before the size is checked.
        headers = self._headers | {"Accept-Encoding": "identity"}
        timeout, per_step = asyncio.timeout(self._patience.timeout_s), httpx.Timeout(None, connect=self._patience.connect_s)
        try:
            async with timeout, self._http.stream("POST", self._url, json=body, headers=headers, timeout=per_step) as response:
                content = bytearray()
                if (packed := response.headers.get("content-encoding", "identity")) != "identity":
                    raise PolicyError(f"{self._url}: the answer has the encoding {packed[:20]!r}, which was not requested")
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > ANSWER_BYTES:
                        raise PolicyError(f"{self._url}: the answer has more than {ANSWER_BYTES >> 20} MiB")
                return httpx.Response(response.status_code, headers=_kept(response.headers), content=bytes(content))
        except TimeoutError as e:
            raise httpx.TimeoutException(f"no answer in {self._patience.timeout_s:.0f} s") from e

    def _wait_s(self, attempt: int, told_s: float | None) -> float:
        if told_s is not None:
            return min(max(told_s, 0.0), self._patience.longest_wait_s)
        wait = min(self._patience.first_wait_s * 2**attempt, self._patience.longest_wait_s)
        return float(wait * self._random.uniform(0.5, 1.0))


def _kept(headers: httpx.Headers) -> dict[str, str]:
    return {k: headers[k] for k in ("content-type", "date", "retry-after") if k in headers}


def _retry_after_s(response: httpx.Response) -> float | None:
    told = response.headers.get("retry-after", "").strip()
    if not told:
        return None
    if told.isdigit():
        return float(told)
    try:  # a date is relative to the server's clock, not to ours
        return (parsedate_to_datetime(told) - parsedate_to_datetime(response.headers.get("date", ""))).total_seconds()
    except (ValueError, TypeError):
        return None


def _status(response: httpx.Response) -> str:
    try:
        body = response.json()
        told = body.get("error", body) if isinstance(body, dict) else body
        said = json.dumps(told, ensure_ascii=False)
    except ValueError:
        said = response.text
    return f"status {response.status_code}: {said[:300]}"


def _refusal(url: str, response: httpx.Response) -> PolicyError | ContextExhausted:
    said = response.text.lower()
    if response.status_code in TOO_LONG and any(words in said for words in TOO_LONG_WORDS):
        return ContextExhausted(f"the conversation is too long for the model: {_status(response)}")
    return PolicyError(f"{url} refused: {_status(response)}")
