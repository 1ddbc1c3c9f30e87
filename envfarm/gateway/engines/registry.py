"""From an engine's description to an engine: the one list of what the gateway can speak to."""

import aiohttp

from envfarm.core.engine import EngineSpec
from envfarm.gateway.engines.engine import Engine
from envfarm.gateway.engines.engine_http import Patience
from envfarm.gateway.engines.sglang import SGLang
from envfarm.gateway.engines.vllm import VLLM


def make(spec: EngineSpec, http: aiohttp.ClientSession, patience: Patience) -> Engine:
    """An engine that calls through a shared client."""
    return SGLang(spec, http, patience) if spec.kind == "sglang" else VLLM(spec, http, patience)
