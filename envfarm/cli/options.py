"""What several commands are asked in the same words: options, which tasks, which policy."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from envfarm.core.episode import PolicySpec
from envfarm.core.errors import UsageError
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow
from envfarm.wiring import SANDBOXES, Farm

F = TypeVar("F", bound=Callable[..., Any])

sandbox_option = click.option("--sandbox", type=click.Choice(SANDBOXES), default="local", show_default=True, help="Whose boxes.")
policy_url_option = click.option(
    "--policy-url", multiple=True, help="An address that tenants' policies may be at; further ones in ENVFARM_POLICY_URLS."
)
lease_option = click.option(
    "--lease", "lease_s", type=click.FloatRange(1), default=15.0, show_default=True, help="Seconds until others take over."
)


def model_option(*, more: str = ".") -> Callable[[F], F]:
    """`--model`. `more` ends what its help says."""
    told = f"Tokenizer and chat template, for programs{more}"
    return click.option("--model", type=click.Path(path_type=Path, exists=True, file_okay=False), default=None, help=told)


def check_named(names: Sequence[str], *, every: bool) -> None:
    """Either names or `--all`. Raises `UsageError`."""
    if every == bool(names):
        raise UsageError("name tasks, or say --all", hint="`envfarm tasks list` shows what there is")


async def tasks_named(farm: Farm, names: Sequence[str], *, every: bool) -> list[TaskRow]:
    """The tasks that are named, each once, or every valid one. Raises `UsageError` where that is none."""
    check_named(names, every=every)
    if not every:
        # Named twice is meant once.
        return list({row.digest: row for row in [await farm.catalogue.find(name) for name in names]}.values())
    rows = await farm.catalogue.rows(TaskFilter(state="valid"))
    if not rows:
        raise UsageError("the catalogue holds no valid task", hint="`envfarm build SOURCES.toml` mints some")
    return rows


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
