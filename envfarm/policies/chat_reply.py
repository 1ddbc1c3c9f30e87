"""Reads a chat completion into an action and a record. Pure.

It knows the formats of OpenAI, vLLM (`return_token_ids`) and SGLang (`meta_info`). Ids and logprobs are taken unchanged or not at all;
nothing is re-tokenized. A body that is not a completion raises `PolicyError`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from envfarm.core.action import Action, Malformed
from envfarm.core.errors import PolicyError
from envfarm.core.model_call import ModelCall
from envfarm.policies import tool_calls

LOWEST_LOGPROB = -9999.0
"""Replaces minus infinity, which JSON cannot represent; engines use the same value."""
KEPT = ("role", "content", "tool_calls", "reasoning_content", "reasoning")


class Reply(NamedTuple):
    """The parsed completion."""

    action: Action
    call: ModelCall


def read(body: Any) -> Reply:
    """Read a decoded response body. Raises `PolicyError` if it is not a chat completion."""
    body = _without_lone_surrogates(body)
    choice = _choice(body)
    message = choice.get("message")
    if not isinstance(message, dict):
        raise PolicyError("the engine's answer has no message")
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    meta = _first_dict(choice.get("meta_info"), body.get("meta_info"), body.get("metadata"))
    ids, logprobs = _sampled(choice, meta)
    prompt_ids = _ids(body.get("prompt_token_ids")) or _ids(choice.get("prompt_token_ids")) or _ids(choice.get("input_token_ids"))
    finish_reason = choice.get("finish_reason")
    call = ModelCall(
        model=_text(body.get("model")),
        prompt_tokens=_count(usage.get("prompt_tokens"), prompt_ids),
        completion_tokens=_count(usage.get("completion_tokens"), ids),
        prompt_ids=prompt_ids,
        completion_ids=ids,
        logprobs=logprobs,
        weight_version=_text(meta.get("weight_version")) or None,
        engine=_text(body.get("system_fingerprint")) or None,
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        text=_text(message.get("content")),
        message={"role": "assistant", **{k: _sayable(message[k]) for k in KEPT if message.get(k) is not None}},
    )
    return Reply(_action(message, call), call)


def _action(message: Mapping[str, Any], call: ModelCall) -> Action:
    calls = message.get("tool_calls") or []
    said = json.dumps(message, ensure_ascii=False, default=str)
    if not isinstance(calls, list) or not all(isinstance(c, dict) for c in calls):
        return Malformed(raw=said, problem="the tool calls are not a list of objects")
    if not calls:
        cut = "the answer reached its maximum length before any tool call" if call.finish_reason == "length" else "there is no tool call"
        return Malformed(raw=said, problem=f"{cut}; call one of {', '.join(tool_calls.NAMES)}, and finish when the work is done")
    if len(calls) > 1:
        return Malformed(raw=said, problem=f"{len(calls)} tool calls at once; none was run: make one call at a time")
    function = calls[0].get("function")
    if not isinstance(function, dict):
        return Malformed(raw=said, problem="the tool call has no function")
    return tool_calls.parse(function.get("name"), function.get("arguments"))


def _choice(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise PolicyError(f"the engine's answer is not an object but {type(body).__name__}")
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        said = json.dumps(body.get("error", body), ensure_ascii=False, default=str)[:300]
        raise PolicyError(f"the engine's answer has no choices: {said}")
    return choices[0]


def _sampled(choice: Mapping[str, Any], meta: Mapping[str, Any]) -> tuple[tuple[int, ...] | None, tuple[float, ...] | None]:
    """Completion ids and their logprobs. Logprobs that do not match the ids one to one are dropped: shifted ones are worse than none."""
    logprobs = _first_dict(choice.get("logprobs"))
    rows = logprobs.get("content")
    rows = [r for r in rows if isinstance(r, dict)] if isinstance(rows, list) else []
    ids = _ids(choice.get("token_ids")) or _ids(choice.get("output_token_ids")) or _ids(choice.get("completion_token_ids"))
    values = [r.get("logprob") for r in rows]
    pairs = meta.get("output_token_logprobs")  # SGLang: [logprob, id, text] per token
    if isinstance(pairs, list) and all(isinstance(p, list | tuple) and len(p) > 1 for p in pairs) and ids is None:
        ids, values = _ids([p[1] for p in pairs]), [p[0] for p in pairs]
    if ids is None:  # vLLM with return_tokens_as_token_ids
        named = [str(r.get("token", "")) for r in rows]
        if named and all(n.startswith("token_id:") and n[9:].isdigit() for n in named):
            ids = tuple(int(n[9:]) for n in named)
    numbers = _logprobs(values)
    return ids, numbers if ids is not None and numbers is not None and len(numbers) == len(ids) else None


def _logprobs(values: list[Any]) -> tuple[float, ...] | None:
    if not values or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    return tuple(map(_logprob, values))


def _logprob(value: float) -> float:
    try:
        known = max(float(value), LOWEST_LOGPROB)  # NaN stays NaN: `max` returns the first value if the comparison is false
    except OverflowError:
        known = math.inf
    if not math.isfinite(known):
        raise PolicyError(f"the engine gave {known} as a logprob")
    return known


def _ids(value: Any) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not value or not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        return None
    return tuple(value)


def _count(told: Any, ids: tuple[int, ...] | None) -> int | None:
    if isinstance(told, int) and not isinstance(told, bool) and told >= 0:
        return told
    return len(ids) if ids is not None else None


def _first_dict(*values: Any) -> dict[str, Any]:
    return next((v for v in values if isinstance(v, dict)), {})


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _sayable(value: Any) -> Any:
    """The value without numbers that JSON cannot represent, which a server may produce by decoding the model's arguments."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case list():
            return [_sayable(v) for v in value]
        case dict():
            return {k: _sayable(v) for k, v in value.items()}
        case _:
            return value


def _without_lone_surrogates(value: Any) -> Any:
    r"""Replace lone surrogates: JSON may contain `\ud800`, which is not valid text and cannot be stored."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_without_lone_surrogates(v) for v in value]
        case dict():
            return {_without_lone_surrogates(k): _without_lone_surrogates(v) for k, v in value.items()}
        case _:
            return value
