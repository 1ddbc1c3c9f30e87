"""Options and arguments that several commands share: sandbox, model, engines, tasks, policy."""

import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click
from pydantic import ValidationError

from envfarm.cli import console
from envfarm.core.engine import EngineSpec
from envfarm.core.episode import Budgets, PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.rollout import NAME
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow, TaskState, check_playable
from envfarm.wiring import SANDBOXES, Farm

F = TypeVar("F", bound=Callable[..., Any])
STATES = get_args(TaskState)
READERS: Mapping[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}


def sandbox_choice(names: Sequence[str]) -> Callable[[F], F]:
    """`--sandbox`, one of these."""
    told = "Sandbox provider that runs the boxes."
    return click.option("--sandbox", type=click.Choice(names), default="local", show_default=True, help=told)


every_option = click.option("--all", "every", is_flag=True, help="Every valid task of the catalogue.")
sandbox_option = sandbox_choice(SANDBOXES)
policy_url_option = click.option(
    "--policy-url", multiple=True, help="Allow tenants' policies at this address, in addition to ENVFARM_POLICY_URLS. Repeatable."
)
episodes_option = click.option(
    "--episodes",
    type=click.IntRange(1),
    default=None,
    help="Most concurrent episodes per host, as far as memory, disk and cores allow.  [default: 16 per CPU]",
)
state_option = click.option("--state", type=click.Choice((*STATES, "any")), default=None, help="Tasks in this state.  [default: valid]")
address_option = click.option(
    "--address", default="", help="Ray's address: HOST:PORT, ray://HOST:PORT or auto.  [default: start a Ray on this machine]"
)
lease_option = click.option(
    "--lease",
    "lease_s",
    type=click.FloatRange(1),
    default=15.0,
    show_default=True,
    help="Seconds after which other hosts take over from a dead one.",
)


def model_option(*, more: str = ".") -> Callable[[F], F]:
    """`--model`; `more` ends its help text."""
    told = f"Directory with tokenizer and chat template, for agent programs{more}"
    return click.option("--model", type=click.Path(path_type=Path, exists=True, file_okay=False), default=None, help=told)


def engine_option(*, more: str = "") -> Callable[[F], F]:
    """`--engine`; `more` ends its help text."""
    told = "Inference engine for agent programs: name=…,kind=sglang|vllm,url=…, or @FILE.toml with these keys and api_key. Repeatable."
    return click.option("--engine", multiple=True, help=told + more)


def filter_state(state: str | None) -> str:
    """What `TaskFilter.state` is for `--state`."""
    return "" if state == "any" else state or "valid"


def check_named(names: Sequence[str], *, every: bool) -> None:
    """Check that there are either names or `--all`. Raises `UsageError`."""
    if every == bool(names):
        raise UsageError("give either task names or --all", hint="`envfarm tasks list` lists the tasks")


async def tasks_named(farm: Farm, names: Sequence[str], *, every: bool) -> list[TaskRow]:
    """The named tasks, without duplicates, or every valid one. Raises `UsageError` if there is none, or if a named one is quarantined."""
    check_named(names, every=every)
    if not every:
        found = list({row.digest: row for row in [await farm.catalogue.find(name) for name in names]}.values())
        check_playable(found)
        return found
    rows = await farm.catalogue.rows(TaskFilter(state="valid"))
    if not rows:
        raise UsageError("the catalogue has no valid task", hint="mint tasks with `envfarm build SOURCES.toml`")
    return rows


def say_unsure(states: Sequence[str]) -> None:
    """A remark about those of the named tasks that did not pass every gate, by the states of all of them."""
    counts = {state: list(states).count(state) for state in ("unchecked", "suspect")}
    if unsure := [f"{count} {state}" for state, count in counts.items() if count]:
        console.say(f"not all of these tasks are valid: {', '.join(unsure)}; `envfarm tasks validate` checks them")


def asked_budgets(options: Mapping[str, Any]) -> Budgets:
    """Those of --turns, --tokens and --seconds. Raises `UsageError` for one that is no budget."""
    try:
        return Budgets(turns=options["turns"], tokens=options["tokens"], seconds=options["seconds"])
    except ValidationError as e:
        first = e.errors()[0]
        option = f"--{first['loc'][0]}"
        raise UsageError(f"{option} {first['input']}: {first['msg'].lower()}", hint=f"omit {option} for the default") from e


def check_run_name(name: str) -> None:
    """A run's name is part of its episodes' ids, which are names of files. Raises `UsageError`; empty is none."""
    if name and not re.fullmatch(NAME, name):
        raise UsageError(f"--run {name}: not a run's name", hint="up to 100 letters, digits, `.`, `_` and `-`, a letter or digit first")


def parse_policy(text: str, task: str) -> PolicySpec:
    """`NAME`, or `NAME:` and what `option_values` takes; `{task}` becomes the beginning of the task's digest. Raises `UsageError`."""
    name, _, rest = text.partition(":")
    where, example = f"--policy {text}", "openai_chat:model=NAME,temperature=0.7"
    options = option_values(rest.replace("{task}", task.removeprefix("sha256:")[:12]), where, example) if rest else {}
    if "extra_body" in options and not rest.startswith(("{", "@")):
        hint = f"""write JSON: {name}:{{"model": "NAME", "extra_body": {{"top_k": 20}}}}"""
        raise UsageError(f"{where}: key=value makes everything in `extra_body` text, whatever the endpoint needs", hint=hint)
    if file := options.get("file"):
        options["file"] = str(Path(str(file)).absolute())
    return PolicySpec(name=name, options=options)


def parse_engines(texts: Sequence[str]) -> list[EngineSpec]:
    """Each has the fields of `EngineSpec`, as `option_values` takes them. Warns of API keys on the command line. Raises `UsageError`."""
    return [_engine(text) for text in texts]


def _engine(text: str) -> EngineSpec:
    example = "name=a,kind=vllm,url=http://10.0.0.5:8000"
    fields = option_values(text, "--engine", example)
    if "api_key" in fields and not text.startswith("@"):
        console.say("--engine: every user of this machine can see the api_key in the list of processes; use --engine @FILE.toml instead")
    try:
        spec = EngineSpec.model_validate(fields)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"--engine: `{place}`: {first['msg']}", hint=f"for example {example}") from e
    if not spec.url.startswith(("http://", "https://")):
        raise UsageError(f"--engine: {spec.url!r} is not an http(s) address", hint=f"for example {example}")
    return spec


def option_values(text: str, where: str, example: str) -> dict[str, Any]:
    """What `key_values` takes; or a JSON object; or `@FILE`, a TOML or JSON file.

    Raises `UsageError`, which says what is accepted: `where` names the option, `example` is some keys and values.
    """
    hint = f"for example {example} (write `\\,` for a comma in a value), a JSON object, or @FILE with a name in .toml or .json"
    if not text.startswith(("{", "@")):
        return key_values(text, where, hint)
    file = Path(text[1:]) if text.startswith("@") else None
    try:
        values = READERS[file.suffix](file.read_text(encoding="utf-8")) if file else json.loads(text)
    except KeyError as e:
        raise UsageError(f"{where}: {file}: its name does not say whether it is TOML or JSON", hint=hint) from e
    except OSError as e:
        raise UsageError(f"{where}: {file}: {e.strerror or e}", hint=hint) from e
    except ValueError as e:
        raise UsageError(f"{where}: {file or 'not a JSON object'}: {e}", hint=hint) from e
    if not isinstance(values, dict):
        raise UsageError(f"{where}: {file}: not a JSON object", hint=hint)
    return values


def key_values(text: str, where: str, hint: str) -> dict[str, Any]:
    r"""`key=value,outer.inner=value,…`. Values are text: the type of an option decides what they mean. `\,` is a comma in a value.

    Raises `UsageError` with `hint`, where `where` names the option.
    """
    values: dict[str, Any] = {}
    for part in re.split(r"(?<!\\),", text):
        key, equals, value = part.partition("=")
        *outer, last = key.strip().split(".")
        if not equals or not all((*outer, last)):
            raise UsageError(f"{where}: {part!r} is not key=value", hint=hint)
        table = values
        for name in outer:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise UsageError(f"{where}: `{name}` is given a value and keys below it, and cannot have both", hint=hint)
        if last in table:
            raise UsageError(f"{where}: `{key.strip()}` is given twice", hint=hint)
        table[last] = value.replace("\\,", ",")
    return values
