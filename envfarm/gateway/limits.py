"""What the farm allows an episode's agent, and how a call is sampled under it. Pure."""

from typing import Literal

from pydantic import Field, model_validator

from envfarm.core.errors import ContextExhausted
from envfarm.core.frozen import Frozen
from envfarm.gateway.conversation import Wishes
from envfarm.gateway.engines.engine import Sampling


class SessionLimits(Frozen):
    """Given with an episode; the agent's own wishes move within them."""

    context_tokens: int = Field(default=32_768, gt=0)
    """Prompt and completion of a call."""
    completion_tokens: int = Field(default=8_192, gt=0)
    """Of one call."""
    total_tokens: int | None = Field(default=None, gt=0)
    """Completion tokens of the episode. The call that would begin beyond them is refused; the last one is cut to what is left, once no
    other call may still leave some."""
    temperature: tuple[float, float] = (1.0, 1.0)
    """Lowest and highest; the agent's is moved in between. Where it has none, the highest."""
    top_p: tuple[float, float] = (1.0, 1.0)
    """The same. Below 1 the logprobs are no longer those of the distribution that was sampled from."""
    seed: int | None = None
    """Each call is sampled with this and its own number added."""
    calls: int = Field(default=2_000, gt=0)
    """Of the episode: those that were answered, and those that could not be by the agent's own fault."""
    failures: int = Field(default=1_000, gt=0)
    """Calls that may come to nothing by the engines' or the gateway's fault, which counts in no budget. Behind them none is answered; nor
    behind as many tokens that were sampled for them as the episode has."""
    counts: int = Field(default=10_000, gt=0)
    """Requests for how many tokens a prompt would have."""
    calls_at_once: int = Field(default=16, gt=0)
    kept_tokens: int = Field(default=8_000_000, gt=0)
    """In memory, for one episode: prompts' new tokens and completions."""
    kept_answers: int = Field(default=64, gt=0)
    """So many last answers are given again, unsampled, to an agent that asks again."""
    repeats: Literal["kept", "sampled"] = "kept"
    """What a request gets whose answer was delivered whole: that answer, or a new one. While it is sampled it is never sampled twice."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Of one call, where it is shorter than the engines' own."""

    @model_validator(mode="after")
    def _in_order(self) -> "SessionLimits":
        for low, high in (self.temperature, self.top_p):
            if not 0 <= low <= high:
                raise ValueError(f"the lowest of {low} to {high} is not below the highest, or below zero")
        return self


def sampling(limits: SessionLimits, wishes: Wishes, *, prompt_tokens: int, call: int) -> Sampling:
    """How a call is sampled, as far as the episode's tokens last: those are its purse's.

    Raises `ContextExhausted` when the prompt leaves no room.
    """
    room = limits.context_tokens - prompt_tokens
    if room < 1:
        raise ContextExhausted(f"the conversation has {prompt_tokens} tokens, and the model's context is {limits.context_tokens}")
    return Sampling(
        max_tokens=min(room, limits.completion_tokens, wishes.max_tokens or limits.completion_tokens),
        temperature=_between(limits.temperature, wishes.temperature),
        top_p=_between(limits.top_p, wishes.top_p),
        stop=wishes.stop,
        seed=None if limits.seed is None else limits.seed + call,
    )


def _between(bounds: tuple[float, float], wish: float | None) -> float:
    low, high = bounds
    return high if wish is None else min(max(wish, low), high)
