"""Reading of agents' JSON: each word that is wrong is refused with its place. Pure, used by the dialects."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from envfarm.gateway.conversation import Asked, Message, Tool, Wishes, clean, whole
from envfarm.gateway.problems import Refused

Row = Mapping[str, Any]
STOPS = 16
"""Of strings that end an answer: each is looked for in every piece of text."""
STOP_CHARS = 1_000
NO_LOGPROBS = "logprobs are the trainer's, and no agent is told them"


def refuse(where: str, why: str) -> Refused:
    """The error for a word that is wrong."""
    return Refused("invalid", f"{where}: {why}")


def check_absent(body: Row, keys: Sequence[str], why: str) -> None:
    """Raises `Refused` where one of these is asked for, without which the answer would not be what the agent expects."""
    for key in keys:
        if body.get(key):
            raise refuse(key, why)


def rows(value: Any, where: str) -> list[Row]:
    """A list of objects; an absent one is empty."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise refuse(where, "a list of objects is needed")
    return value


def text(value: Any, where: str) -> str:
    """A string, in whole characters; an absent one is empty."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refuse(where, "a string is needed")
    return whole(value)


def content(value: Any, where: str, *, kinds: Sequence[str] = ("text",), between: str = "") -> str:
    """What was said: a string, or a list of parts of these kinds, each with a `text`."""
    if value is None or isinstance(value, str):
        return text(value, where)
    said = []
    for n, part in enumerate(rows(value, where)):
        kind = part.get("type")
        if kind not in kinds:
            raise refuse(f"{where}[{n}]", f"parts of type {kind!r} cannot be served to this model")
        said.append(text(part.get("text", part.get("refusal")), f"{where}[{n}].text"))
    return between.join(said)


def whole_number(body: Row, key: str) -> int | None:
    """A count of at least one, or None."""
    value = body.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise refuse(key, "a whole number of at least 1 is needed")
    return value


def number(body: Row, key: str) -> float | None:
    """A number of at least zero, or None."""
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= sys.float_info.max:
        raise refuse(key, "a number of at least 0 is needed")
    return float(value)


def flag(body: Row, key: str, where: str = "") -> bool:
    """True or false; an absent one is false."""
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise refuse(where or key, "true or false is needed")
    return bool(value)


def strings(value: Any, where: str) -> tuple[str, ...]:
    """A string or a list of at most `STOPS`, each of at most `STOP_CHARS`; absent and empty ones are none."""
    given = [value] if isinstance(value, str) else value or []
    if not isinstance(given, list) or len(given) > STOPS:
        raise refuse(where, f"a string or a list of at most {STOPS} is needed")
    found = tuple(t for n, v in enumerate(given) if (t := text(v, f"{where}[{n}]")))
    if any(len(each) > STOP_CHARS for each in found):
        raise refuse(where, f"a string of more than {STOP_CHARS} characters")
    return found


def wishes(body: Row, *, most: Sequence[str], stop: str = "stop") -> Wishes:
    """How the agent would have it sampled; `most` are the keys that may limit the answer's length."""
    limits = [n for key in most if (n := whole_number(body, key)) is not None]
    seed = body.get("seed")
    if seed is not None and type(seed) is not int:
        raise refuse("seed", "a whole number is needed")
    stops = strings(body.get(stop), stop)
    return Wishes(min(limits, default=None), number(body, "temperature"), number(body, "top_p"), stops, seed)


def tool(name: Any, description: Any, parameters: Any, where: str) -> Tool:
    """One offered function."""
    if not isinstance(name, str) or not name:
        raise refuse(where, "a tool needs a name")
    if not isinstance(parameters or {}, dict):
        raise refuse(where, "a tool's parameters are a JSON schema")
    return Tool(text(name, where), text(description, where), clean(parameters or {}))


def arguments(value: Any, where: str) -> str:
    """A call's arguments as JSON text, given as text or as data."""
    if value is None or isinstance(value, str):
        return text(value, where) or "{}"
    return json.dumps(clean(value), ensure_ascii=False)


def asked(body: Row, messages: Sequence[Message], tools: Sequence[Tool], how: Wishes, *, stream_usage: bool = True) -> Asked:
    """All of a request."""
    if not messages:
        raise Refused("invalid", "there is no message")
    model = text(body.get("model"), "model")
    return Asked(tuple(messages), tuple(tools), how, model, flag(body, "stream"), stream_usage)
