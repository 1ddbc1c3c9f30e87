"""SGLang's own interface: `POST /generate` with `input_ids` and `return_logprob`.

Source: SGLang's `GenerateReqInput` and the `meta_info` of its answers. `output_token_logprobs` holds `[logprob, id, text]` for each token,
so that ids and logprobs cannot be out of step.
"""

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import PolicyError
from envfarm.core.sampled import FinishReason
from envfarm.gateway.engines.engine import Finished, Order, Tokens
from envfarm.gateway.engines.engine_http import EngineHttp, Json, Patience, numbers, whole_numbers

REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class SGLang:
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
            for told in answer.read(await self._http.whole("/generate", body)):
                yield told
        else:
            async for piece in self._http.pieces("/generate", body):
                for told in answer.read(piece):
                    yield told
        if not answer.over:
            raise PolicyError(f"engine {self._spec.name} ended its answer without a reason")

    def _body(self, order: Order) -> Json:
        s = order.sampling
        sampling: Json = {"max_new_tokens": s.max_tokens, "temperature": s.temperature, "top_p": s.top_p, "skip_special_tokens": True}
        sampling |= {"spaces_between_special_tokens": False}
        if s.stop:
            sampling["stop"] = list(s.stop)
        if s.seed is not None:
            sampling["sampling_seed"] = s.seed
        body: Json = {"rid": order.request_id, "input_ids": list(order.prompt_ids), "sampling_params": sampling, "return_logprob": True}
        body |= {"stream": self._spec.incremental} | ({"return_routed_experts": True} if self._spec.experts else {})
        return body


class _Answer:
    def __init__(self, order: Order, spec: EngineSpec) -> None:
        self._order = order
        self._spec = spec
        self._seen = 0
        self._text = ""
        self._repeats = True
        self.over = False

    def read(self, piece: Json) -> list[Tokens | Finished]:
        meta = piece.get("meta_info")
        if self.over or not isinstance(meta, dict):
            raise PolicyError(f"engine {self._spec.name} gave a piece without meta_info, or one after the end")
        if meta.get("prompt_tokens", len(self._order.prompt_ids)) != len(self._order.prompt_ids):
            raise PolicyError(f"engine {self._spec.name} read {meta['prompt_tokens']} tokens of a prompt of {len(self._order.prompt_ids)}")
        told: list[Tokens | Finished] = [tokens] if (tokens := self._tokens(meta, piece.get("output_ids"))).ids else []
        text = piece.get("text")
        if isinstance(text, str):
            self._text = text if self._repeats else self._text + text
        if finish := meta.get("finish_reason"):
            told.append(self._finished(finish, meta, text))
        return told

    def _tokens(self, meta: Json, output_ids: Any) -> Tokens:
        rows = meta.get("output_token_logprobs", [])
        if not isinstance(rows, list) or not all(isinstance(r, list) and len(r) > 1 for r in rows):
            raise PolicyError(f"engine {self._spec.name} gave no logprobs")
        count = meta.get("completion_tokens")
        # With one setting of the engine a piece repeats all before it, with another it does not; the count tells them apart.
        self._repeats = count == len(rows)
        if self._repeats:
            rows = rows[self._seen :]
        elif count != self._seen + len(rows):
            raise PolicyError(f"engine {self._spec.name} counts {count} tokens and gave logprobs of {self._seen} and {len(rows)}")
        ids, logprobs = whole_numbers([r[1] for r in rows], "ids"), numbers([r[0] for r in rows], "logprobs")
        if output_ids is not None and ids and ids != whole_numbers(output_ids, "ids")[-len(ids) :]:
            raise PolicyError(f"engine {self._spec.name} gave ids that are not those of its logprobs")
        self._seen += len(rows)
        version = meta.get("weight_version")
        return Tokens(ids, logprobs, version if isinstance(version, str) else self._spec.weight_version)

    def _finished(self, finish: Any, meta: Json, text: Any) -> Finished:
        reason = REASONS.get(str(finish.get("type"))) if isinstance(finish, dict) else None
        if reason is None:
            raise PolicyError(f"engine {self._spec.name} broke off: {str(finish)[:200]}")
        self.over = True
        return Finished(reason, self._text if isinstance(text, str) else None, unpacked(meta.get("routed_experts"), self._spec))


def unpacked(experts: Any, spec: EngineSpec) -> bytes | None:
    """Routed experts, which engines pack in base64. Raises `PolicyError`, also where they were asked for and are missing."""
    if experts is None and not spec.experts:
        return None
    try:
        return base64.b64decode(experts, validate=True)
    except (TypeError, ValueError, binascii.Error) as e:
        raise PolicyError(f"engine {spec.name} gave no routed experts") from e
