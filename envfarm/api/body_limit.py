"""An upper bound for request bodies, counted as they come: nobody fills the farm's memory by a header that lies."""

from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envfarm.api.problems import plain


class _TooLarge(Exception):  # noqa: N818 - never seen outside
    pass


class BodyLimit:
    """Middleware: answers 413 to a body of more than so many bytes; `below` has other bounds by the beginning of the path."""

    def __init__(self, app: ASGIApp, most_bytes: int, below: Mapping[str, int] | None = None) -> None:
        self._app = app
        self._most = most_bytes
        self._below = below or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen, begun, refused = 0, False, False
        most = next((bound for path, bound in self._below.items() if scope["path"].startswith(path)), self._most)

        async def counted() -> Message:
            nonlocal seen, refused
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                refused = True
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            if refused and not begun:
                return  # what a framework makes of `_TooLarge` is not what is told
            begun = True
            await send(message)

        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not (told.isdigit() and int(told) > most):
            with suppress(_TooLarge):
                await self._app(scope, counted, noted)
            if not refused or begun:
                return
        await plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"this request may have {most} bytes")(scope, receive, send)
