"""One request to a policy's engine, as a trajectory records it."""

from typing import Any

from pydantic import Field

from envfarm.core.frozen import Frozen


class ModelCall(Frozen):
    """One request to the policy's engine. Ids and logprobs are there only where the engine gave them; nothing is re-tokenised."""

    model: str = ""
    call_id: str = ""
    """The caller's own name of it, where it has one: the step id of an episode that a trainer drives."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_ids: tuple[int, ...] | None = Field(default=None, fail_fast=True)
    continues: bool = False
    """Whether `prompt_ids` leaves out the first part of the prompt: the whole prompt and the completion of the last step that has ids."""
    completion_ids: tuple[int, ...] | None = Field(default=None, fail_fast=True)
    logprobs: tuple[float, ...] | None = Field(default=None, fail_fast=True)
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


class Conversation:
    """The ids of an episode's calls, given in order, up to the last one's completion."""

    def __init__(self) -> None:
        self._ids: list[int] = []

    def shortened(self, call: ModelCall) -> ModelCall:
        """The next call, without the prompt ids that are those so far: records keep each id once."""
        ids, length = call.prompt_ids, len(self._ids)
        if ids is not None and not call.continues and 0 < length <= len(ids) and list(ids[:length]) == self._ids:
            call = call.model_copy(update={"prompt_ids": ids[length:], "continues": True})
        self._add(call)
        return call

    def whole(self, call: ModelCall) -> ModelCall:
        """The next call, with its whole prompt."""
        before = tuple(self._ids) if call.continues else ()
        self._add(call)
        return call.model_copy(update={"prompt_ids": before + (call.prompt_ids or ()), "continues": False}) if before else call

    def _add(self, call: ModelCall) -> None:
        if call.prompt_ids is not None:
            if not call.continues:
                self._ids.clear()
            self._ids += call.prompt_ids
            self._ids += call.completion_ids or ()
