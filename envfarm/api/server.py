"""The server of an app, which stops without breaking a call off. Called by `envfarm serve`."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI


class Server(uvicorn.Server):
    """Uvicorn's, for an app of `create_app`. Calls that wait are answered when it stops, instead of cancelled after its patience."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        super().__init__(uvicorn.Config(app, lifespan="off", timeout_graceful_shutdown=3, server_header=False, **options))
        self._waiting = app.state.waiting

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn, which then ends the process by the SIGTERM that it was told by: before its caller has let go of boxes and leases."""
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals = [number for number in self._captured_signals if number != signal.SIGTERM]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn: it has been told to stop."""
        self._waiting.stop()
        await super().shutdown(sockets)
