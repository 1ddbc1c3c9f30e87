"""Serves an ASGI application over real HTTP on a free loopback port, for tests that must use a socket."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn

from envfarm.api.listening import listen


def free_port() -> int:
    """A loopback port that nobody has, for programs that must be told theirs.

    Not of those that Linux gives to connections meanwhile (32,768 and above), nor of those that Ray keeps for its workers (below 20,000).
    """
    for port in random.sample(range(20_000, 32_768), 100):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port was found in 100 tries")


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
