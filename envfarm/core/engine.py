"""An engine that samples for the policy: where it is and how it is spoken to."""

from typing import Literal

from pydantic import Field, SecretStr

from envfarm.core.frozen import Frozen


class EngineSpec(Frozen):
    """Where an engine is and how it is spoken to."""

    name: str = Field(min_length=1)
    """Kept with each call; calls go on to the engine of this name as long as it is in the list."""
    kind: Literal["sglang", "vllm"]
    url: str
    """Up to and without `/generate` or `/v1`."""
    model: str = ""
    """The name that vLLM serves it under."""
    weight_version: str | None = None
    """Of the weights that are loaded, for engines that do not tell."""
    incremental: bool = True
    """Whether to ask for tokens as they come. SGLang should run with `--incremental-streaming-output`: else pieces repeat all before."""
    experts: bool = False
    """Whether to ask for routed experts."""
    api_key: SecretStr = SecretStr("")
