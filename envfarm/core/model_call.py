"""One request to a policy's engine, as a trajectory records it."""

from typing import Any

from envfarm.core.frozen import Frozen


class ModelCall(Frozen):
    """One request to the policy's engine. Ids and logprobs are there only where the engine gave them; nothing is re-tokenised."""

    model: str = ""
    call_id: str = ""
    """The caller's own name of it, where it has one: the step id of an episode that a trainer drives."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_ids: tuple[int, ...] | None = None
    completion_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    """One per completion id."""
    weight_version: str | None = None
    engine: str | None = None
    finish_reason: str | None = None
    text: str = ""
    """What the model said beside its tool call."""
    message: dict[str, Any] | None = None
    """The assistant's message as the engine gave it: sent back word for word, so that later prompts continue the sampled tokens."""

    @property
    def reasoning(self) -> str:
        """What the model said before its answer, by the names that engines give it in a message; empty where there is none."""
        said = (self.message or {}).get("reasoning_content") or (self.message or {}).get("reasoning")
        return said if isinstance(said, str) else ""
