"""`envfarm tasks understand`: what could become tasks of a file's Stack Exchange sources, and what their programs print.

Reached by entry point; it parses, calls and prints.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click

from envfarm.cli import console, stopping
from envfarm.core import digest
from envfarm.core.errors import SourceError, UsageError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.question import Question
from envfarm.core.sandbox import SandboxSpec
from envfarm.settings import Settings, read
from envfarm.wiring import Farm
from task_builders import sources_file
from task_builders.questions import trial
from task_builders.questions.tally import Tally, tally
from task_builders.sources import stackexchange_api, stackexchange_dump
from task_builders.sources.patience import Patience
from task_builders.sources.source_models import Source, StackexchangeApiSource, StackexchangeDumpSource
from task_builders.sources.stackexchange_client import ApiAccess
from task_builders.terminal.make import WORK_DIR


@click.command(short_help="Count the questions that could become tasks.")
@click.argument("sources", type=click.Path(path_type=Path))
@click.option(
    "--try", "tried", is_flag=True, help="Run the answers' programs in local boxes, on the questions' inputs and on variants of them."
)
@click.option("--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True)
def understand(sources: Path, shape: str, *, tried: bool) -> None:
    """Count the questions of SOURCES that could become tasks, and the reasons why others cannot. Without --try, no box is started."""
    settings = read()
    chosen = [s for s in sources_file.read(sources) if isinstance(s, StackexchangeDumpSource | StackexchangeApiSource)]
    if not chosen:
        raise UsageError(
            f"{sources} has no Stack Exchange source", hint='add a [[source]] with kind = "stackexchange_dump" or "stackexchange_api"'
        )
    lost: Counter[str] = Counter()
    broken: list[SourceError] = []
    found = tally(question for source in chosen for question in _questions(source, settings, lost, broken))
    found.reasons.update(lost)
    trials = stopping.run(_trials(settings, found)) if tried else Counter[str]()
    if shape == "json":
        said = {"counts": dict(found.rows()), "reasons": dict(found.reasons.most_common()), "trials": dict(trials.most_common())}
        click.echo(json.dumps(said, indent=1))
    else:
        _print(found, trials)
    for each in broken[:1]:  # told at the end, behind what was read
        raise each


async def _trials(settings: Settings, found: Tally) -> Counter[str]:
    """What came of running the programs of each question that was understood, each in a box of its own."""
    counts: Counter[str] = Counter()
    environment = Environment(image=ImageRef(kind="host", digest=digest.of_bytes(b"host")), work_dir=WORK_DIR)
    async with Farm(settings) as farm:
        provider = farm.provider("local")
        for question, understood in found.whole:
            box = await provider.create(SandboxSpec(environment=environment, memory_mib=512, disk_mib=256, pids=128))
            try:
                _, tried = await trial.run(box, understood)
            finally:
                await box.close()
            counts[tried.verdict] += 1
            console.say(f"{question.url}: {tried.verdict}")
    return counts


def _questions(source: Source, settings: Settings, lost: Counter[str], broken: list[SourceError]) -> Iterator[Question]:
    try:
        yield from _read(source, settings, lost)
    except SourceError as e:
        broken.append(e)


def _read(source: Source, settings: Settings, lost: Counter[str]) -> Iterator[Question]:
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


def _print(found: Tally, trials: Counter[str]) -> None:
    console.table("Questions", ("what", "how many"), [(what, str(count)) for what, count in found.rows()])
    if found.reasons:
        console.table(
            "Why the other questions are not tasks", ("reason", "how many"), [(why, str(n)) for why, n in found.reasons.most_common()]
        )
    if trials:
        console.table("What the answers' programs did", ("outcome", "how many"), [(what, str(n)) for what, n in trials.most_common()])
