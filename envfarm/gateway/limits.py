"""What every episode's agent may do at the most, and how a call is sampled under what its own episode allows. Pure."""

import math

from envfarm.core.episode import derived_seed
from envfarm.core.errors import ContextExhausted
from envfarm.core.frozen import Frozen
from envfarm.core.program import Allowance
from envfarm.gateway.conversation import Wishes
from envfarm.gateway.engines.engine import Sampling
from envfarm.gateway.engines.engine_http import Patience

LONGEST_TURN_S = 1.0
"""So long at the most does a request wait for its turn."""


class GatewayOptions(Frozen):
    """How the gateway behaves towards all episodes."""

    sessions: int = 20_000
    """Open at once."""
    requests_per_s: float = 20.0
    """Of an episode: each that comes counts, whatever is answered."""
    requests_burst: int = 100
    """Of an episode: so many may come at once."""
    request_bytes: int = 16 << 20
    """Of one request."""
    request_parts: int = 500_000
    """Commas, brackets and braces in one request."""
    requests_bytes: int = 512 << 20
    """Of all requests that are being read."""
    read_s: float = 60.0
    """So long may a request take to come: an agent is a few hops away at the most."""
    tries: int = 3
    """Engines that are asked for one call, as long as none has sampled anything."""
    first_part_s: float = 5.0
    """So long a stream waits with its status for the first part, so that most failures have a status of their own."""
    heartbeat_s: float = 10.0
    """After so much silence a stream says that it lives: well below what proxies and clients hang up after."""
    failures: int = 1_000
    """Of an episode: calls that may come to nothing by the engines' or the gateway's fault, which counts in no budget. Behind them none
    is answered; nor behind as many tokens that were sampled for them as the episode has."""
    counts: int = 10_000
    """Of an episode: requests for how many tokens a prompt would have."""
    calls_at_once: int = 16
    """Of an episode."""
    kept_tokens: int = 8_000_000
    """Of an episode's record: further calls are refused."""
    """In memory, for one episode: prompts' new tokens and completions."""
    kept_answers: int = 64
    """So many last answers of an episode are given again, unsampled, to an agent that asks again."""
    patience: Patience = Patience()


class Pace:
    """How fast one episode's requests are taken."""

    def __init__(self, options: GatewayOptions) -> None:
        self._apart_s = 1 / options.requests_per_s
        self._ahead_s = (options.requests_burst - 1) * self._apart_s
        self._next_s = -math.inf

    def turn(self, now_s: float) -> float | None:
        """In how many seconds it is the turn of a request that comes now; None where that is too long, and it gets none."""
        due_s = max(self._next_s, now_s - self._ahead_s)
        wait_s = max(due_s - now_s, 0.0)
        if wait_s > LONGEST_TURN_S:
            return None
        self._next_s = due_s + self._apart_s
        return wait_s


def sampling(allowance: Allowance, wishes: Wishes, *, prompt_tokens: int, call: int) -> Sampling:
    """How a call is sampled, as far as the episode's tokens last: those are its purse's. Each has a seed of its own.

    All of the distribution is sampled from, whatever an agent would like: cut (`top_p`) it would not be the one of the logprobs. Raises
    `ContextExhausted` when the prompt leaves no room.
    """
    room = allowance.context_tokens - prompt_tokens
    if room < 1:
        raise ContextExhausted(f"the conversation has {prompt_tokens} tokens, and the model's context is {allowance.context_tokens}")
    return Sampling(
        max_tokens=min(room, allowance.completion_tokens, wishes.max_tokens or allowance.completion_tokens),
        temperature=allowance.temperature,
        stop=wishes.stop,
        seed=None if allowance.seed is None else derived_seed(allowance.seed, call),
    )
