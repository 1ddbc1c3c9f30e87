"""Bounds for request bodies: how large they are, how slowly they come, and how much of them is held at once.

Bytes are counted as they come: nobody fills the farm's memory by a header that lies, by many bodies at once, or by bodies that do not end.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envfarm.api.access import whose
from envfarm.api.problems import of_error, plain
from envfarm.api.services import ApiOptions
from envfarm.core.errors import Overloaded
from envfarm.core.ids import TenantId

CROWDED_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Bound:
    """Of one body."""

    most_bytes: int
    held: bool = True
    """Whether it is held in memory; else it goes to the disk as it comes."""


class BodyLimit:
    """Middleware: answers 413 to a body that is too large, 408 to one that does not come, and 429 where too much is held.

    A body is held until its call is answered. `below` has the bounds of single resources, by the beginning of the path.
    """

    def __init__(self, app: ASGIApp, options: ApiOptions, below: Mapping[str, Bound]) -> None:
        self._app = app
        self._options = options
        self._below = below
        self._held = Counter[TenantId]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        otherwise = Bound(self._options.max_body_bytes)
        bound = next((bound for path, bound in self._below.items() if scope["path"].startswith(path)), otherwise)
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if told.isdigit() and int(told) > bound.most_bytes:
            await _too_large(bound)(scope, receive, send)
            return
        known = whose(scope)
        body = _Body(receive, send, self._options, bound, self._held, known.tenant if known else TenantId(""))
        try:
            with suppress(_Refused):
                await self._app(scope, body.receive, body.send)
        finally:
            body.let_go()
        if body.refusal is not None and not body.answered:
            await body.refusal(scope, receive, send)


class _Refused(Exception):  # noqa: N818 - never seen outside
    pass


class _Body:
    """One body that comes in, and what is answered to it."""

    def __init__(self, receive: Receive, send: Send, options: ApiOptions, bound: Bound, held: Counter[TenantId], tenant: TenantId) -> None:
        self._receive = receive
        self._send = send
        self._options = options
        self._bound = bound
        self._held = held
        self._tenant = tenant
        self._size = 0
        self._whole = False
        self._left_s = options.body_patience_s
        self.refusal: Response | None = None
        self.answered = False
        """Whether an answer has begun."""

    async def receive(self) -> Message:
        """See ASGI. Raises `_Refused`."""
        if self._whole:
            return await self._receive()
        message = await self._next()
        self._whole = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self._left_s = min(self._options.body_patience_s, self._left_s + size / self._options.min_body_rate)
        self._size += size
        if self._size > self._bound.most_bytes:
            raise self._refused(_too_large(self._bound))
        if self._bound.held:
            self._held[self._tenant] += size
            self._check_room()
        return message

    async def send(self, message: Message) -> None:
        """See ASGI. What a framework makes of a refusal is not told."""
        if self.refusal is None or self.answered:
            self.answered = True
            await self._send(message)

    def let_go(self) -> None:
        """Hold nothing more."""
        if self._bound.held:
            self._held[self._tenant] -= self._size
            if not self._held[self._tenant]:
                del self._held[self._tenant]

    async def _next(self) -> Message:
        begun = monotonic()
        try:
            async with asyncio.timeout(self._left_s):
                message = await self._receive()
        except TimeoutError as e:
            slow = plain(HTTPStatus.REQUEST_TIMEOUT, "the request was not sent to its end", retryable=True)
            slow.headers["Connection"] = "close"
            raise self._refused(slow) from e
        self._left_s -= monotonic() - begun
        return message

    def _check_room(self) -> None:
        each, most = self._options.max_held_bytes_each, self._options.max_held_bytes
        if self._held[self._tenant] > each:
            why = f"{each} bytes of this tenant's requests are held"
        elif self._held.total() > most:
            why = f"{most} bytes of requests are held"
        else:
            return
        raise self._refused(of_error(Overloaded(why, retry_after_s=CROWDED_RETRY_S, hint="send fewer at once")))

    def _refused(self, answer: Response) -> _Refused:
        self.refusal = answer
        return _Refused()


def _too_large(bound: Bound) -> Response:
    return plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"this request may have {bound.most_bytes} bytes")
