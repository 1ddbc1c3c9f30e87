"""`envfarm tasks understand`: what could become tasks of a file's Stack Exchange sources, without a box. Reached by entry point."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from envfarm.cli import console
from envfarm.core.errors import UsageError
from envfarm.core.question import Question
from envfarm.settings import Settings, read
from task_builders import sources_file
from task_builders.questions.tally import Tally, tally
from task_builders.sources import stackexchange_api, stackexchange_dump
from task_builders.sources.patience import Patience
from task_builders.sources.source_models import Source, StackexchangeApiSource, StackexchangeDumpSource
from task_builders.sources.stackexchange_client import ApiAccess


@click.command()
@click.argument("sources", type=click.Path(path_type=Path))
@click.option("--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True)
def understand(sources: Path, shape: str) -> None:
    """Count what could become tasks of the Stack Exchange sources in SOURCES, and why the rest cannot. Starts no box."""
    settings = read()
    chosen = [s for s in sources_file.read(sources) if isinstance(s, StackexchangeDumpSource | StackexchangeApiSource)]
    if not chosen:
        raise UsageError(f"{sources}: no source of it is of Stack Exchange", hint='write one with kind = "stackexchange_dump"')
    lost: Counter[str] = Counter()
    found = tally(question for source in chosen for question in _questions(source, settings, lost))
    found.reasons.update(lost)
    if shape == "json":
        click.echo(json.dumps({"counts": dict(found.rows()), "reasons": dict(found.reasons.most_common())}, indent=1))
        return
    _print(found)


def _questions(source: Source, settings: Settings, lost: Counter[str]) -> Iterator[Question]:
    if isinstance(source, StackexchangeDumpSource):
        read_from = stackexchange_dump.read(source, settings.sources / "dumps", console.say)
    elif isinstance(source, StackexchangeApiSource):
        access = ApiAccess(key=settings.stackexchange_key, patience=Patience(progress=console.say))
        read_from = stackexchange_api.read(source, settings.sources / "stackexchange", access)
    else:
        return
    for outcome in read_from:
        if isinstance(outcome, Question):
            yield outcome
        else:
            lost[outcome.reason] += 1


def _print(found: Tally) -> None:
    console.table("Questions", ("what", "how many"), [(what, str(count)) for what, count in found.rows()])
    if found.reasons:
        console.table("Why the rest is no task", ("reason", "how many"), [(why, str(n)) for why, n in found.reasons.most_common()])
