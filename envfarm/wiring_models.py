"""A model's directory and its engines → the gateway, for programs in boxes. Called by `wiring_hosts`.

Needs the extra `serve`. One process's: each that plays programs has a gateway of its own.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import ValidationError

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
    settings: Settings, model: Path | None, engines: Sequence[str], observer: Observer = UNOBSERVED
) -> AsyncIterator[Doorways | None]:
    """The gateway to a model, until the block ends; None without one. `engines` as `parse_engine` takes them. Raises `UsageError`."""
    if model is None:
        if engines:
            raise UsageError("--engine without --model", hint="--model is the directory with the engines' tokenizer and chat template")
        yield None
        return
    tokenizer, specs = hugging_face.load(model), [parse_engine(text) for text in engines]
    async with engine_session() as http:
        gateway = Gateway(tokenizer, http, clock=SystemClock(), blobs=FileBlobStore(settings.blobs), observer=observer)
        try:
            gateway.set_engines(specs)
        except GatewayError as e:
            raise UsageError(f"--engine: {e}") from e
        try:
            yield Doorways(gateway)
        finally:
            await gateway.aclose()


def parse_engine(text: str) -> EngineSpec:
    """`name=…,kind=sglang|vllm,url=…`, and further fields of `EngineSpec`. Raises `UsageError`."""
    parts = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    try:
        spec = EngineSpec.model_validate(parts)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"--engine {text}: `{place}`: {first['msg']}", hint="for example name=a,kind=vllm,url=http://10.0.0.5:8000") from e
    if not spec.url.startswith(("http://", "https://")):
        raise UsageError(f"--engine {text}: {spec.url!r} is no http(s) address")
    return spec
