"""From a policy's name and options to a policy: the one list of what can play.

Called by the controllers for each attempt, since a policy instance belongs to one episode.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from pydantic import ValidationError

from envfarm.core.episode import PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.protocols import Models, Player
from envfarm.core.scaffold import Scaffold
from envfarm.core.task import Task
from envfarm.policies.gold import gold
from envfarm.policies.nop import nop
from envfarm.policies.openai_chat import ChatOptions, OpenAIChat
from envfarm.policies.patch import patch
from envfarm.policies.program import CommandProgram, ProgramOptions
from envfarm.policies.scripted import Scripted, parse_actions, read_actions

Options = TypeVar("Options", bound=Frozen)
NAMES = ("gold", "nop", "scripted", "patch", "openai_chat", "program")


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """What a policy may need beside its options."""

    seed: int = 0
    http: httpx.AsyncClient | None = None
    """Shared by a run's episodes, closed by who made it. Needed by `openai_chat` alone."""
    key_of: Callable[[str], str] = lambda _: ""
    """Which key is sent to an address; empty for none."""
    models: Models | None = None
    """Needed by `program` alone."""
    scaffold: Callable[[str], Scaffold] | None = None
    """From a scaffold's name to what it is. Needed by `program` alone, and only where it names one. Raises `UsageError`."""


def make(spec: PolicySpec, task: Task, inputs: PolicyInputs) -> Player:
    """A fresh policy for one episode. Raises `UsageError` naming the option that is wrong."""
    match spec.name:
        case "gold":
            _no_options(spec)
            return gold(task)
        case "nop":
            _no_options(spec)
            return nop()
        case "scripted":
            return _scripted(spec)
        case "patch":
            _known_options(spec, "patch")
            match spec.options:
                case {"patch": str(diff), **rest} if not rest:
                    return patch(task, diff)
            raise UsageError("policy patch: `patch` (a unified diff) is needed, and nothing else")
        case "openai_chat":
            return _chat(spec, task, inputs)
        case "program":
            if inputs.models is None:
                raise UsageError("policy program: no model is served here", hint="--model and --engine say which")
            options = _read(ProgramOptions, spec)
            find = inputs.scaffold if options.scaffold else None
            return CommandProgram(options, inputs.models, find(options.scaffold) if find else None)
        case _:
            raise UsageError(f"there is no policy {spec.name!r}", hint=f"there are {', '.join(NAMES)}")


def scaffold_of(spec: PolicySpec) -> str:
    """The name of the scaffold that a policy's boxes have; empty for none. Raises `UsageError` as `make` does."""
    return _read(ProgramOptions, spec).scaffold if spec.name == "program" else ""


def _scripted(spec: PolicySpec) -> Scripted:
    _known_options(spec, "actions", "file")
    match spec.options:
        case {"actions": rows, **rest} if not rest:
            return Scripted(parse_actions(rows, where="policy scripted"))
        case {"file": str(path), **rest} if not rest:
            return Scripted(read_actions(Path(path)))
        case _:
            raise UsageError("policy scripted: either `actions` (a list) or `file` (JSON or TOML) is needed, and nothing else")


def _chat(spec: PolicySpec, task: Task, inputs: PolicyInputs) -> OpenAIChat:
    options = _read(ChatOptions, spec)
    if not options.base_url.startswith(("http://", "https://")):
        raise UsageError(
            f"policy openai_chat: base_url {options.base_url!r} is no http(s) address", hint="for example http://127.0.0.1:8000/v1"
        )
    if inputs.http is None:
        raise UsageError("policy openai_chat needs an HTTP client")
    return OpenAIChat(options, inputs.http, work_dir=task.plan.work_dir, seed=inputs.seed, api_key=inputs.key_of(options.base_url))


def _read(kind: type[Options], spec: PolicySpec) -> Options:
    try:
        return kind.model_validate(spec.options)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(map(str, first["loc"]))
        wording = {"missing": "is missing", "extra_forbidden": "is no option of it"}.get(first["type"], f": {first['msg']}")
        raise UsageError(f"policy {spec.name}: `{place}` {wording}", hint=f"its options are {', '.join(kind.model_fields)}") from e


def _known_options(spec: PolicySpec, *known: str) -> None:
    if strange := sorted(set(spec.options) - set(known)):
        raise UsageError(f"policy {spec.name}: `{strange[0]}` is no option of it", hint=f"its options are {', '.join(known)}")


def _no_options(spec: PolicySpec) -> None:
    if spec.options:
        raise UsageError(f"policy {spec.name} takes no options, not {', '.join(sorted(spec.options))}")
