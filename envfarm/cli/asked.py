"""What several commands are asked in the same words: which tasks, which policy."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envfarm.cli import console
from envfarm.core.episode import Budgets, PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.rollout import NAME
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow, check_playable
from envfarm.wiring import Farm


def check_named(names: Sequence[str], *, every: bool) -> None:
    """Either names or `--all`. Raises `UsageError`."""
    if every == bool(names):
        raise UsageError("name tasks, or say --all", hint="`envfarm tasks list` shows what there is")


async def tasks_named(farm: Farm, names: Sequence[str], *, every: bool) -> list[TaskRow]:
    """The tasks that are named, each once, or every valid one. Raises `UsageError` where that is none, or one is quarantined."""
    check_named(names, every=every)
    if not every:
        # Named twice is meant once.
        found = list({row.digest: row for row in [await farm.catalogue.find(name) for name in names]}.values())
        check_playable(found)
        return found
    rows = await farm.catalogue.rows(TaskFilter(state="valid"))
    if not rows:
        raise UsageError("the catalogue holds no valid task", hint="`envfarm build SOURCES.toml` mints some")
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
    """`NAME` or `NAME:key=value,outer.inner=value,…`; values are numbers where they look like one. Raises `UsageError`."""
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
                raise UsageError(f"--policy {text}: {part_name!r} has a value and cannot have keys as well")
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
