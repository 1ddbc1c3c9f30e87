"""Serves an ASGI application over real HTTP on a free loopback port, for tests that must use a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from envfarm.api.listening import listen


def free_port() -> int:
    """A loopback port that nobody listens on, for programs that must be told theirs. Another program may take it meanwhile."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve it until the block ends, and yield its address. The socket listens first, so requests are never refused."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve(sockets=[listener]))  # noqa: SLF001 - without its signal handlers
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
