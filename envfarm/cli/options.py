"""Options and arguments that several commands share: sandbox, model, tasks, policy."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from envfarm.cli import console
from envfarm.core.episode import Budgets, PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.rollout import NAME
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow, check_playable
from envfarm.wiring import SANDBOXES, Farm

F = TypeVar("F", bound=Callable[..., Any])

sandbox_option = click.option(
    "--sandbox", type=click.Choice(SANDBOXES), default="local", show_default=True, help="Sandbox provider of the boxes."
)
policy_url_option = click.option(
    "--policy-url", multiple=True, help="Allow tenants' policies at this address, in addition to ENVFARM_POLICY_URLS. Repeatable."
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
        raise UsageError(f"{option} {first['input']}: {first['msg'].lower()}", hint=f"without {option} it is the default") from e


def check_run_name(name: str) -> None:
    """A run's name is part of its episodes' ids, which are names of files. Raises `UsageError`; empty is none."""
    if name and not re.fullmatch(NAME, name):
        raise UsageError(f"--run {name}: not a run's name", hint="up to 100 letters, digits, `.`, `_` and `-`, a letter or digit first")


def parse_policy(text: str, task: str) -> PolicySpec:
    """`NAME` or `NAME:key=value,outer.inner=value,…`; values that look like numbers become numbers. Raises `UsageError`."""
    name, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise UsageError(f"--policy {text}: {part!r} is not key=value", hint="for example openai_chat:model=NAME,temperature=0.7")
        *outer, last = key.strip().split(".")
        table = options
        for part_name in outer:
            inner = table.setdefault(part_name, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--policy {text}: {part_name!r} is given a value and keys below it, and cannot have both")
            table = inner
        table[last] = _value(value.replace("{task}", task.removeprefix("sha256:")[:12]))
    if file := options.get("file"):
        options["file"] = str(Path(str(file)).absolute())
    return PolicySpec(name=name, options=options)


def _value(text: str) -> str | int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
