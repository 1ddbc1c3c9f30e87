"""An upper bound for request bodies, counted as they come: nobody fills the farm's memory by a header that lies."""

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envfarm.api.problems import plain


class _TooLarge(Exception):  # noqa: N818 - never seen outside
    pass


class BodyLimit:
    """Middleware: answers 413 to a body of more than so many bytes."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        told = dict(scope["headers"]).get(b"content-length", b"0")
        refusal = plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request may have {self._most} bytes")
        if told.isdigit() and int(told) > self._most:
            await refusal(scope, receive, send)
            return
        try:
            await self._app(scope, counted, noted)
        except _TooLarge:
            if not begun:
                await refusal(scope, receive, send)
