"""Arguments that several commands share: which tasks, which policy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from envfarm.core.episode import PolicySpec
from envfarm.core.errors import UsageError
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow
from envfarm.wiring import Farm


def check_named(names: Sequence[str], *, every: bool) -> None:
    """Check that there are either names or `--all`. Raises `UsageError`."""
    if every == bool(names):
        raise UsageError("give either task names or --all", hint="`envfarm tasks list` lists the tasks")


async def tasks_named(farm: Farm, names: Sequence[str], *, every: bool) -> list[TaskRow]:
    """The named tasks, without duplicates, or every valid one. Raises `UsageError` if there is none."""
    check_named(names, every=every)
    if not every:
        return list({row.digest: row for row in [await farm.catalogue.find(name) for name in names]}.values())
    rows = await farm.catalogue.rows(TaskFilter(state="valid"))
    if not rows:
        raise UsageError("the catalogue has no valid task", hint="mint tasks with `envfarm build SOURCES.toml`")
    return rows


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
