"""Makes a policy from its name and options: the one list of policies.

Each attempt needs a new policy, since an instance belongs to one episode.
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
    """What a policy may need besides its options."""

    seed: int = 0
    http: httpx.AsyncClient | None = None
    """Shared by a run's episodes, and closed by its creator. Needed by `openai_chat` only."""
    key_of: Callable[[str], str] = lambda _: ""
    """The API key for an address; empty for none."""
    models: Models | None = None
    """Needed by `program` only."""
    scaffold: Callable[[str], Scaffold] | None = None
    """Looks up a scaffold by name. Needed by `program` only, if it names one. Raises `UsageError`."""


def make(spec: PolicySpec, task: Task, inputs: PolicyInputs) -> Player:
    """A new policy for one episode. Raises `UsageError` with the wrong option."""
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
            raise UsageError("policy patch: the only option is `patch` (a unified diff), and it is required")
        case "openai_chat":
            return _chat(spec, task, inputs)
        case "program":
            if inputs.models is None:
                raise UsageError(
                    "policy program: no model is served here", hint="start with `--model DIR` (`envfarm run`, `serve` or `hosts`)"
                )
            options = _read(ProgramOptions, spec)
            find = inputs.scaffold if options.scaffold else None
            return CommandProgram(options, inputs.models, find(options.scaffold) if find else None)
        case _:
            raise UsageError(f"there is no policy {spec.name!r}", hint=f"policies: {', '.join(NAMES)}")


def scaffold_of(spec: PolicySpec) -> str:
    """The name of the scaffold in a policy's boxes; empty for none. Raises `UsageError` like `make`."""
    return _read(ProgramOptions, spec).scaffold if spec.name == "program" else ""


def _scripted(spec: PolicySpec) -> Scripted:
    _known_options(spec, "actions", "file")
    match spec.options:
        case {"actions": rows, **rest} if not rest:
            return Scripted(parse_actions(rows, where="policy scripted"))
        case {"file": str(path), **rest} if not rest:
            return Scripted(read_actions(Path(path)))
        case _:
            raise UsageError("policy scripted: give exactly one option: `actions` (a list) or `file` (JSON or TOML)")


def _chat(spec: PolicySpec, task: Task, inputs: PolicyInputs) -> OpenAIChat:
    options = _read(ChatOptions, spec)
    if not options.base_url.startswith(("http://", "https://")):
        raise UsageError(
            f"policy openai_chat: base_url {options.base_url!r} is not an http(s) address", hint="for example http://127.0.0.1:8000/v1"
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
        wording = {"missing": " is missing", "extra_forbidden": " is not an option"}.get(first["type"], f": {first['msg']}")
        raise UsageError(f"policy {spec.name}: `{place}`{wording}", hint=f"its options are {', '.join(kind.model_fields)}") from e


def _known_options(spec: PolicySpec, *known: str) -> None:
    if strange := sorted(set(spec.options) - set(known)):
        raise UsageError(f"policy {spec.name}: `{strange[0]}` is not an option", hint=f"its options are {', '.join(known)}")


def _no_options(spec: PolicySpec) -> None:
    if spec.options:
        raise UsageError(f"policy {spec.name} takes no options, but was given {', '.join(sorted(spec.options))}")
