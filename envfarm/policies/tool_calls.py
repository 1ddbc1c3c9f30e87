"""Actions as functions for chat models: JSON schemas for requests, and a parser for the model's calls.

Pure. An invalid call becomes `Malformed`, with a message that the model can act on.
"""

import json
from typing import Any

from pydantic import ValidationError

from envfarm.core.action import Action, Bash, Finish, Malformed, ReadFile, RunTests, StrReplace
from envfarm.core.frozen import Frozen

_TOOLS: dict[str, type[Bash | StrReplace | ReadFile | RunTests | Finish]] = {
    "bash": Bash,
    "str_replace": StrReplace,
    "read_file": ReadFile,
    "run_tests": RunTests,
    "finish": Finish,
}
PARAMETERS: dict[tuple[str, str], str] = {
    ("bash", "command"): "Run in a shell that keeps its directory and variables between calls. Standard input is empty.",
    ("bash", "timeout_s"): "Seconds after which the command is killed.",
    ("str_replace", "path"): "Absolute path, or relative to the work dir.",
    ("str_replace", "old"): "Must occur exactly once in the file, white space included. Empty to create the file.",
    ("str_replace", "new"): "The text that replaces it.",
    ("read_file", "path"): "Absolute path, or relative to the work dir.",
    ("read_file", "start_line"): "The first line to show, from 1.",
    ("read_file", "line_count"): "How many lines to show.",
    ("run_tests", "paths"): "Test files or directories, relative to the work dir; the project's suite if empty. Name files that you added.",
    ("finish", "message"): "One sentence on what was done.",
}
NAMES = tuple(_TOOLS)


def schemas() -> list[dict[str, Any]]:
    """The tools as the `tools` of a chat completions request."""
    return [
        {"type": "function", "function": {"name": name, "description": _described(model), "parameters": _parameters(name, model)}}
        for name, model in _TOOLS.items()
    ]


def parse(name: Any, arguments: Any) -> Action:
    """A model's call as an action. `arguments` is JSON text, or an object if a server has decoded it."""
    raw = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    if not isinstance(name, str) or name not in _TOOLS:
        return Malformed(raw=raw, problem=f"there is no tool {name!r}; the tools are {', '.join(NAMES)}")
    try:
        given = json.loads(arguments or "{}") if isinstance(arguments, str) else (arguments or {})
    except ValueError as e:
        return Malformed(raw=raw, problem=f"the arguments of {name} are not JSON: {e}")
    if not isinstance(given, dict):
        return Malformed(raw=raw, problem=f"the arguments of {name} are not an object")
    given.pop("tool", None)
    try:
        return _TOOLS[name].model_validate(given)
    except ValidationError as e:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'arguments'}: {p['msg']}" for p in e.errors()[:3])
        return Malformed(raw=raw, problem=f"{name}: {problems}")


def arguments_of(action: Action) -> dict[str, Any]:
    """An action's arguments in the form of a model's call."""
    return action.model_dump(mode="json", exclude={"tool"}, exclude_defaults=True)


def _described(model: type[Frozen]) -> str:
    return " ".join((model.__doc__ or "").split())


def _parameters(name: str, model: type[Frozen]) -> dict[str, Any]:
    schema = model.model_json_schema()
    properties = {}
    for key, value in schema["properties"].items():
        if key == "tool":
            continue
        # Servers that compile the schema to a grammar work best without unions; omitting a key means the same as null.
        kind: dict[str, Any] = next((k for k in value.pop("anyOf", []) if k.get("type") != "null"), {})
        plain = {k: v for k, v in {**value, **kind}.items() if k not in {"title", "default"} or (k == "default" and v not in (None, ""))}
        properties[key] = {**plain, "description": PARAMETERS[name, key]}
    required = [k for k in schema.get("required", []) if k != "tool"]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
