"""A real HTTP server of an ASGI application on a free port of loopback, for tests that must go over a socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from envfarm.api.listening import listen


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve it until the block ends; the address. It answers from the first moment: the socket listens before anything else."""
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(app, lifespan="off", log_level="error", timeout_graceful_shutdown=1, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve(sockets=[listener]))  # noqa: SLF001 - without its signal handlers
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
