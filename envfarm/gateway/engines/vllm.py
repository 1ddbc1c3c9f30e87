"""vLLM's OpenAI-compatible completions, with ids for a prompt and `return_token_ids` (vLLM 0.10.2 or newer).

Source: vLLM's `CompletionRequest` and `CompletionResponse`. It does not tell the weights' version: the farm's list of
engines does, as it stood when the call began.
"""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import PolicyError
from envfarm.core.sampled import FinishReason
from envfarm.gateway.engines.engine import Finished, Order, Tokens
from envfarm.gateway.engines.engine_http import EngineHttp, Json, Patience, numbers, whole_numbers
from envfarm.gateway.engines.sglang import unpacked

REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class VLLM:
    """See `Engine`."""

    def __init__(self, spec: EngineSpec, http: aiohttp.ClientSession, patience: Patience) -> None:
        self._spec = spec
        self._http = EngineHttp(spec, http, patience)

    @property
    def spec(self) -> EngineSpec:
        """See `Engine`."""
        return self._spec

    async def sample(self, order: Order) -> AsyncIterator[Tokens | Finished]:
        """See `Engine`."""
        body = self._body(order)
        answer = _Answer(order, self._spec)
        if not self._spec.incremental:
            answer.read(await self._http.whole("/v1/completions", body))
            yield answer.take()
        else:
            async for piece in self._http.pieces("/v1/completions", body):
                answer.read(piece)
                if (tokens := answer.take()).ids:
                    yield tokens
        yield answer.finished()

    def _body(self, order: Order) -> Json:
        s = order.sampling
        body: Json = {"model": self._spec.model, "request_id": order.request_id, "prompt": list(order.prompt_ids)}
        body |= {"max_tokens": s.max_tokens, "temperature": s.temperature, "top_p": s.top_p, "n": 1, "logprobs": 1}
        body |= {"return_token_ids": True, "add_special_tokens": False, "skip_special_tokens": True, "spaces_between_special_tokens": False}
        body |= {"stream": self._spec.incremental}
        if s.stop:
            body["stop"] = list(s.stop)
        if s.seed is not None:
            body["seed"] = s.seed
        return body


class _Answer:
    def __init__(self, order: Order, spec: EngineSpec) -> None:
        self._order = order
        self._spec = spec
        self._tokens = Tokens((), ())
        self._reason: FinishReason | None = None
        self._text: list[str] = []
        self._experts: Any = None

    def read(self, piece: Json) -> None:
        choices = piece.get("choices")
        if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
            raise PolicyError(f"engine {self._spec.name} answers without choices")
        for choice in choices:
            if self._reason is not None:
                raise PolicyError(f"engine {self._spec.name} goes on after the end")
            prompt = choice.get("prompt_token_ids", piece.get("prompt_token_ids"))
            if prompt is not None and list(prompt) != list(self._order.prompt_ids):
                raise PolicyError(f"engine {self._spec.name} read another prompt than it was given")
            self._choice(choice)

    def take(self) -> Tokens:
        """What came since it was taken last."""
        taken, self._tokens = self._tokens, Tokens((), ())
        return taken

    def finished(self) -> Finished:
        """The end. Raises `PolicyError` when none was told."""
        if self._reason is None:
            raise PolicyError(f"engine {self._spec.name} ended its answer without a reason")
        return Finished(self._reason, "".join(self._text), unpacked(self._experts, self._spec))

    def _choice(self, choice: Json) -> None:
        ids = whole_numbers(choice.get("token_ids", []), "token ids")
        logprobs = choice.get("logprobs")
        values = numbers(logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None, "logprobs") if ids else ()
        self._tokens = Tokens(self._tokens.ids + ids, self._tokens.logprobs + values, self._spec.weight_version)
        text = choice.get("text", "")
        self._text.append(text if isinstance(text, str) else "")
        self._experts = choice.get("routed_experts", self._experts)
        if (finish := choice.get("finish_reason")) is not None:
            if finish not in REASONS:
                raise PolicyError(f"engine {self._spec.name} broke off: {str(finish)[:200]}")
            self._reason = REASONS[finish]
