"""A model's directory and its engines → the gateway, for programs in boxes. Called by `wiring_hosts`.

Needs the extra `serve`. One process's: each that plays programs has a gateway of its own.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from envfarm.controller.system_clock import SystemClock
from envfarm.core.engine import EngineSpec
from envfarm.core.errors import GatewayError, UsageError
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.gateway import hugging_face
from envfarm.gateway.doorway import Doorways
from envfarm.gateway.engines.engine_http import engine_session
from envfarm.gateway.service import Gateway
from envfarm.settings import Settings
from envfarm.stores.blobs import FileBlobStore


@asynccontextmanager
async def doorways(
    settings: Settings, model: Path | None, engines: Sequence[EngineSpec], observer: Observer = UNOBSERVED
) -> AsyncIterator[Doorways | None]:
    """The gateway to a model, until the block ends; None without one. Raises `UsageError`."""
    if model is None:
        if engines:
            raise UsageError("--engine without --model", hint="--model is the directory with the engines' tokenizer and chat template")
        yield None
        return
    tokenizer = hugging_face.load(model)
    async with engine_session() as http:
        gateway = Gateway(tokenizer, http, clock=SystemClock(), blobs=FileBlobStore(settings.blobs), observer=observer)
        try:
            gateway.set_engines(engines)
        except GatewayError as e:
            raise UsageError(f"--engine: {e}") from e
        try:
            yield Doorways(gateway)
        finally:
            await gateway.aclose()
