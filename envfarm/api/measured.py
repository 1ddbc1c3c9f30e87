"""How long requests take, by the route's pattern and never by its path: middleware of the app."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envfarm.core.observing import Observer


class Measured:
    """Tells an observer of each request, with its status."""

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._observer.span("request", method=scope["method"]) as span:

            async def noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.note(status=message["status"])
                await send(message)

            try:
                await self._app(scope, receive, noted)
            finally:
                span.note(route=getattr(scope.get("route"), "path", "none"))
