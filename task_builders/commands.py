"""The builders' commands: `envfarm build`, `envfarm tasks validate`, `fingerprint` and `report`. By entry point; parse, call, print."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import httpx
from pydantic import TypeAdapter, ValidationError

from envfarm.cli import console, stopping
from envfarm.cli.options import address_option, check_named, every_option, filter_state, key_values, sandbox_choice, state_option
from envfarm.core import digest
from envfarm.core.candidate import Gate
from envfarm.core.errors import UsageError
from envfarm.core.validation import ValidationReport
from envfarm.core.why import counted
from envfarm.settings import Settings, read
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow
from envfarm.wiring import Farm
from task_builders import build_display, journal, progress, sources_file, workbench
from task_builders import report as reports
from task_builders.attempt_ledger import AttemptLedger
from task_builders.candidates.decontamination import Decontamination, fingerprint, read_lists, to_lines
from task_builders.concurrency import all_of
from task_builders.intake import Intake
from task_builders.journal import Journal
from task_builders.minting import Rules
from task_builders.pipeline import BuildResult, Pipeline, Stages
from task_builders.sources.package_index import index_url
from task_builders.sources.source_models import COMMIT_CHOICES, Commits, GitSource, NewestCommits, ReleasesSource, Source
from task_builders.stages import Reach, named_source
from task_builders.writing.writer import QUESTION_TOKENS, ChatWriter, TaskWriter

SANDBOXES = ("local", "docker")
NAMED_MAX = 10
JSON = ("json", "jsonl")
DRAW_HINT = "for example newest=15, or sample=15,seed=1,since=2018-01-01: git sources take both, releases the first, other sources neither"
REJECTIONS = ("record", "gate", "reason", "what was seen")


sandbox_option = sandbox_choice(SANDBOXES)
repeats_option = click.option(
    "--repeats", type=click.IntRange(1), default=5, show_default=True, help="Runs of each state, of gold and of nop."
)
attacks_option = click.option(
    "--attacks/--no-attacks", default=True, show_default=True, help="Run the attack library. Without it, tasks stay unchecked."
)
decontaminate_option = click.option(
    "--decontaminate",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="List of fingerprints of tasks to keep out (docs/sources.md). Repeatable.",
)


on_option = click.option(
    "--on",
    "where",
    type=click.Choice(["ray"]),
    default=None,
    help="Use every node of a Ray cluster, each with a home of its own (docs/builds.md).  [default: this process]",
)


@click.command()
@click.argument("sources", type=click.Path(path_type=Path))
@click.option(
    "--draw",
    default="",
    help="Choose other commits or releases than the file: newest=15, or for git sample=15,seed=1,since=2018-01-01.",
)
@click.option("--limit", type=click.IntRange(1), default=None, help="Process at most this many candidates.")
@click.option(
    "--parallel",
    type=click.IntRange(1),
    default=None,
    help="Concurrent boxes, on Ray those of each node.  [default: ENVFARM_PARALLEL, or the number of CPUs]",
)
@on_option
@address_option
@repeats_option
@sandbox_option
@click.option(
    "--retry-gate",
    type=click.Choice([gate.value for gate in Gate]),
    multiple=True,
    metavar="GATE",
    help="Retry what earlier builds rejected at this gate, for example after an upgrade. Repeatable.",
)
@attacks_option
@click.option(
    "--box-hours",
    type=click.FloatRange(0, min_open=True),
    default=Rules().box_hours,
    show_default=True,
    help="Reject a candidate whose gates would take more than so many hours of one box.",
)
@decontaminate_option
@click.option(
    "--writer",
    default="",
    metavar="URL",
    help="OpenAI-compatible endpoint of a model that writes tasks where the rules make none. Its key is read from OPENAI_API_KEY.",
)
@click.option("--writer-model", default="", metavar="NAME", help="Name of the writer's model.")
@click.option(
    "--writer-tokens",
    type=click.IntRange(QUESTION_TOKENS),
    default=1_000_000,
    show_default=True,
    help="Most tokens that the writer may use in this build, prompts and completions together.",
)
def build(sources: Path, **options: Any) -> None:
    """Mint tasks from SOURCES, a TOML file. The same command again continues where it was stopped."""
    _check_writer(options["writer"], options["writer_model"])
    _check_place(options)
    settings = read()
    chosen = redrawn(sources_file.read(sources), options["draw"])
    path = journal_path(settings, sources, options["sandbox"])
    known = Decontamination(read_lists(options["decontaminate"]))
    unread: list[progress.SourceFailed] = []
    result = stopping.run(_build(settings, chosen, path, {**options, "unread": unread, "known": known}))
    result = result.model_copy(update={"finished": tuple(_as_known_now(settings, result.finished))})
    found = reports.yield_of(result.finished, result.failed)
    if found.rows:
        _print_tables(found)
    _tell_what_is_left(result, unread)
    if not result.complete:
        raise click.exceptions.Exit(1)


def _check_writer(url: str, model: str) -> None:
    if (url or model) and not (model and url.startswith(("http://", "https://"))):
        hint = "for example --writer http://127.0.0.1:8000/v1 --writer-model NAME"
        raise UsageError("--writer URL and --writer-model NAME go together", hint=hint)


def _check_place(options: Mapping[str, Any]) -> None:
    if options["address"] and not options["where"]:
        raise UsageError("--address is where Ray is", hint="add --on ray")
    if options["where"] and options.get("writer"):
        raise UsageError(
            "--writer cannot be combined with --on ray", hint="build what the rules understand on Ray first, then with the writer here"
        )


def _tell_what_is_left(result: BuildResult, unread: Sequence[progress.SourceFailed]) -> None:
    for source in unread:
        place = "" if source.source in source.error else f"{source.source}: "
        console.say(f"error: {place}{source.error}")
        if source.hint:
            console.say(f"hint: {source.hint}")
    if result.failed:
        first = result.failed[0]
        console.say(f"error: infrastructure failures kept {len(result.failed)} records from being judged; the first: {first.error}")
        console.say(f"hint: {first.hint or 'fix the cause and run the same command again'}")
    if unchecked := [item for item in result.finished if isinstance(item, journal.ItemValid) and item.not_asked]:
        gates = ", ".join(dict.fromkeys(gate for item in unchecked for gate in item.not_asked))
        console.say(f"{len(unchecked)} tasks are unchecked: this build skipped the gate {gates}")
        console.say(f"hint: envfarm tasks validate {' '.join(item.task_name for item in unchecked[:NAMED_MAX])}")
    if result.complete and not any(isinstance(item, journal.ItemValid) for item in result.finished):
        console.say(
            "these sources yielded no task; the table says why each record was rejected"
            if result.finished
            else "these sources have no records"
        )


async def _build(settings: Settings, sources: Sequence[Source], path: Path, options: dict[str, Any]) -> BuildResult:
    rules = Rules(repeats=options["repeats"], attacks=options["attacks"], box_hours=options["box_hours"])
    async with (
        Farm(settings) as farm,
        httpx.AsyncClient() as http,
        _stages(farm, options, rules, options["known"], _writer(settings, http, options)) as (stages, intake, parallel),
    ):
        with Journal(path) as kept, build_display.watching(console.err) as watch:
            reach = Reach(
                profile=intake.profile,
                directory=settings.sources,
                github_token=settings.github_token,
                stackexchange_key=settings.stackexchange_key,
                index_url=index_url(settings.variables),
                told=lambda words: watch(progress.Waiting(words=words)),
            )

            def seen(event: progress.Event) -> None:
                if isinstance(event, progress.SourceFailed):
                    options["unread"].append(event)
                watch(event)

            again = frozenset(map(Gate, options["retry_gate"]))
            pipeline = Pipeline(stages, farm.catalogue, kept, provider=options["sandbox"], again=again, watch=seen)
            named = [named_source(source, reach) for source in sources]
            return await pipeline.run(named, parallel=parallel, limit=options["limit"])


def _writer(settings: Settings, http: httpx.AsyncClient, options: Mapping[str, Any]) -> ChatWriter | None:
    if not options["writer"]:
        return None
    return ChatWriter(http, options["writer"], options["writer_model"], api_key=settings.openai_api_key, tokens=options["writer_tokens"])


@asynccontextmanager
async def _stages(
    farm: Farm, options: Mapping[str, Any], rules: Rules, known: Decontamination, writer: TaskWriter | None = None
) -> AsyncIterator[tuple[Stages, Intake, int]]:
    """The stages, which may be on Ray; what they begin with, here; and for how many candidates at once they are good."""
    if not options["where"]:
        boxes = options["parallel"] or farm.settings.parallel
        stages = await workbench.stages(farm, options["sandbox"], boxes=boxes, rules=rules, decontamination=known)
        stages.writer = writer
        # One candidate more than half the boxes: while one is set up, another is checked.
        yield stages, stages.intake, boxes // 2 + 1
        return
    try:
        from envfarm.controller.ray_pool import RayPlace  # noqa: PLC0415 - of the extra `ray`
        from task_builders.ray_builder import Order  # noqa: PLC0415
        from task_builders.ray_stages import on_ray  # noqa: PLC0415
    except ModuleNotFoundError as e:
        raise UsageError(f"builders on Ray need {e.name}", hint="pip install 'envfarm[ray]'") from e
    order = Order(sandbox=options["sandbox"], rules=rules, boxes=options["parallel"])
    place = RayPlace(address=options["address"], own_cpus=len(workbench.machine_cores()))
    intake, keep_attempt = workbench.intake(farm, known), AttemptLedger(workbench.tries_path(farm.settings)).append
    async with on_ray(intake, farm.blobs, place, order, keep_attempt) as builders:
        for error in builders.unable:
            console.say(f"not built {error}")
        console.say(f"{counted(builders.nodes, 'builder')} on Ray, {counted(builders.parallel, 'candidate')} at once")
        yield builders, intake, builders.parallel


def journal_path(settings: Settings, sources: Path, sandbox: str) -> Path:
    """A build's journal: one for each sources file and sandbox."""
    key = digest.of_bytes(str(sources.absolute()).encode()).removeprefix("sha256:")[:8]
    return settings.sources / "builds" / f"{sources.stem}-{key}-{sandbox}.jsonl"


def redrawn(sources: Sequence[Source], draw: str) -> list[Source]:
    """The sources, with what `--draw` asks for in place of their own choice. Says which of them keep theirs.

    Raises `UsageError` for a draw that is not understood, or fits none of them.
    """
    if not draw:
        return list(sources)
    values = key_values(draw, f"--draw {draw}", DRAW_HINT)
    drawn = [_redrawn(source, values, draw) for source in sources]
    if not any(drawn):
        raise UsageError(f"--draw {draw} fits no source of this file", hint=DRAW_HINT)
    for number, (source, found) in enumerate(zip(sources, drawn, strict=True), 1):
        if found is None:
            console.say(f"source[{number}] ({source.kind}): --draw {draw} does not fit it, so it is read as the file says")
    return [found or source for source, found in zip(sources, drawn, strict=True)]


def _redrawn(source: Source, values: dict[str, Any], draw: str) -> Source | None:
    """None if the draw does not fit this kind of source."""
    try:
        if isinstance(source, GitSource):
            return source.model_copy(update={"commits": TypeAdapter(Commits).validate_strings(values)})
        if isinstance(source, ReleasesSource) and set(values) == {"newest"}:
            newest = NewestCommits.model_validate_strings(values).newest
            return ReleasesSource.model_validate({**source.model_dump(), "versions": None, "newest": newest})
    except ValidationError as e:
        first = e.errors()[0]
        told = f"`{first['loc'][-1]}`: {first['msg']}" if first["loc"] else f"it is none of {', '.join(COMMIT_CHOICES)}"
        raise UsageError(f"--draw {draw}: {told}", hint=DRAW_HINT) from e
    return None


@click.command(short_help="Run every gate on TASKS again.")
@click.argument("tasks", nargs=-1, required=True)
@sandbox_option
@on_option
@address_option
@repeats_option
@attacks_option
@decontaminate_option
def validate(tasks: tuple[str, ...], repeats: int, *, attacks: bool, decontaminate: tuple[Path, ...], **options: Any) -> None:
    """Run every gate on TASKS in boxes of one sandbox provider, and store the reports. Exits with 1 if a gate failed.

    A report that skipped gates and has no failure does not replace one that ran them.
    """
    _check_place(options)
    rules = Rules(repeats=repeats, attacks=attacks)
    known = Decontamination(read_lists(decontaminate))
    if not stopping.run(_validate(tasks, {**options, "parallel": None}, rules, known)):
        sys.exit(1)


async def _validate(names: Sequence[str], options: Mapping[str, Any], rules: Rules, known: Decontamination) -> bool:
    async with Farm(read()) as farm:
        rows = [await farm.catalogue.find(name) for name in names]
        async with _stages(farm, options, rules, known) as (stages, _, parallel):
            places = asyncio.Semaphore(parallel if options["where"] else 1)

            async def checked(row: TaskRow) -> bool:
                async with places:
                    task = await farm.catalogue.get(row.digest)
                    seen = await stages.check(task, partial(_tell, task.name))
                    await keep(farm.catalogue, task.name, seen)
                    return not seen.failed

            return all(await all_of([checked(row) for row in rows]))


async def keep(catalogue: TaskCatalogue, name: str, seen: ValidationReport) -> None:
    """Keep a task's report and print it; say so if an earlier one stays in its place."""
    kept = await catalogue.add_report(seen)
    console.table(name, ("gate", "passed", "what was seen"), [(g.gate.value, g.passed, g.detail) for g in seen.gates])
    _tell(name, seen.in_words)
    if not kept:
        _tell(name, f"not stored: the earlier report of {seen.provider} boxes ran gates that this one skipped")


def _tell(name: str, words: str) -> None:
    console.say(f"{name}: {words}")


@click.command("fingerprint", short_help="Print a list of fingerprints of TASKS.")
@click.argument("tasks", nargs=-1)
@every_option
@state_option
@click.option("--set", "name", default="envfarm", show_default=True, help="Name of the list, as reports show it.")
def fingerprint_tasks(tasks: tuple[str, ...], state: str | None, name: str, *, every: bool) -> None:
    """Print fingerprints of TASKS, for `envfarm build --decontaminate`: it mints no such tasks."""
    check_named(tasks, every=every)
    _check_state(state, every=every)
    for line in asyncio.run(_fingerprints(tasks, state, name)):
        click.echo(line)


async def _fingerprints(names: Sequence[str], state: str | None, name: str) -> list[str]:
    async with Farm(read()) as farm:
        digests = [row.digest for row in await _rows(farm, names, state)]
        return list(to_lines([fingerprint(name, await farm.catalogue.get(digest)) for digest in dict.fromkeys(digests)]))


def _check_state(state: str | None, *, every: bool) -> None:
    """Raises `UsageError`."""
    if state and not every:
        raise UsageError("--state selects from --all tasks", hint="add --all, or omit --state")


async def _rows(farm: Farm, names: Sequence[str], state: str | None) -> list[TaskRow]:
    """The tasks of these names, or without names every one in this state. Raises `UsageError` if there is none."""
    if names:
        return [await farm.catalogue.find(name) for name in names]
    if rows := await farm.catalogue.rows(TaskFilter(state=filter_state(state))):
        return rows
    told = " ".join(filter(None, ("the catalogue has no", filter_state(state), "task")))
    raise UsageError(told, hint="`envfarm tasks list --state any` lists all tasks")


@click.command(short_help="Show why TASKS are valid, or what builds yield.")
@click.argument("tasks", nargs=-1)
@every_option
@state_option
@click.option("--format", "shape", type=click.Choice(["text", "markdown", "json", "jsonl"]), default="text", show_default=True)
@click.option("--records", is_flag=True, help="Instead, list every record of the builds, with its result.")
@click.option(
    "--rejected", is_flag=True, help="Instead, list every rejected record, with the reason; in json and jsonl with the evidence, too."
)
@click.option(
    "--sources", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE", help="Only builds of this sources file."
)
def report(
    tasks: tuple[str, ...], state: str | None, shape: str, *, every: bool, records: bool, rejected: bool, sources: Path | None
) -> None:
    """Show why TASKS are valid: gates, tests, flakes, attacks, leaks and costs. Without TASKS and --all, show the yield of every build."""
    settings = read()
    named = bool(tasks) or every
    if named:
        check_named(tasks, every=every)
    _check_state(state, every=every)
    if records + rejected + named > 1 or (named and sources):
        hint = "--records and --rejected list what builds read, with or without --sources"
        raise UsageError("use only one of TASKS, --records and --rejected, and --sources only without TASKS", hint=hint)
    if records:
        _print_records(settings, sources, shape)
        return
    if rejected:
        _print_rejections(settings, sources, shape)
        return
    if not named:
        _print_yield(settings, sources, shape)
        return
    cards = asyncio.run(_cards(settings, tasks, state))
    if shape in JSON:
        _print_json([reports.card(task, seen) for task, seen in cards], shape)
        return
    for task, seen in cards:
        click.echo(reports.card_markdown(task, seen))


async def _cards(settings: Settings, names: Sequence[str], state: str | None) -> list[tuple[Any, Any]]:
    cards = []
    async with Farm(settings) as farm:
        for row in await _rows(farm, names, state):
            seen = await farm.catalogue.reports(row.digest)
            if not seen and not names:
                _tell(row.name, "never validated, so there is no report")
            elif not seen:
                raise UsageError(f"{row.name} was never validated", hint=f"envfarm tasks validate {row.name}")
            else:
                task = await farm.catalogue.get(row.digest)
                cards += [(task, one) for one in seen]
    return cards


def _print_json(values: Sequence[dict[str, Any]], shape: str) -> None:
    """One list, or a line for each."""
    if shape == "json":
        click.echo(json.dumps(values, indent=1))
        return
    for value in values:
        click.echo(json.dumps(value))


def _print_yield(settings: Settings, sources: Path | None, shape: str) -> None:
    tries = () if sources else reports.tries_of(AttemptLedger(workbench.tries_path(settings)).read())  # which know no sources
    finished, failed = _journals(settings, sources)
    found = reports.yield_of(_as_known_now(settings, finished), failed).model_copy(update={"tries": tries})
    if shape in JSON:
        click.echo(found.model_dump_json(indent=1 if shape == "json" else None))
    elif shape == "markdown":
        click.echo(reports.yield_markdown(found))
    elif found.rows:
        _print_tables(found)
    else:
        _say_nothing_built(sources)


def _as_known_now(settings: Settings, finished: Sequence[journal.Finished]) -> list[journal.Finished]:
    """The entries; of tasks that `envfarm tasks validate` has found valid since, without the gates that their build left out."""

    async def valid() -> set[str]:
        async with Farm(settings) as farm:
            return {row.digest for row in await farm.catalogue.rows(TaskFilter(state="valid"))}

    if not any(isinstance(item, journal.ItemValid) and item.not_asked for item in finished):
        return list(finished)
    known = asyncio.run(valid())
    return [
        item.model_copy(update={"not_asked": ()}) if isinstance(item, journal.ItemValid) and item.task in known else item
        for item in finished
    ]


def _say_nothing_built(sources: Path | None) -> None:
    console.say(f"nothing was built yet; `envfarm build {sources or 'SOURCES.toml'}` mints tasks")


def _print_records(settings: Settings, sources: Path | None, shape: str) -> None:
    finished, failed = _journals(settings, sources)
    found = [reports.record_row(item) for item in [*_as_known_now(settings, finished), *failed]]
    if shape in JSON:
        _print_json([row.model_dump(mode="json") for row in found], shape)
    elif shape == "markdown":
        click.echo(reports.table_markdown(reports.RECORD_COLUMNS, reports.record_rows(found)))
    elif found:
        console.table("Records", reports.RECORD_COLUMNS, reports.record_rows(found))
    else:
        _say_nothing_built(sources)


def _print_rejections(settings: Settings, sources: Path | None, shape: str) -> None:
    rejections = [item.rejection for item in _journals(settings, sources)[0] if isinstance(item, journal.ItemRejected)]
    rows = [(r.url, r.gate.value, r.reason, r.detail) for r in rejections]
    if shape in JSON:
        _print_json([r.model_dump(mode="json") for r in rejections], shape)
    elif shape == "markdown":
        click.echo(reports.table_markdown(REJECTIONS, rows))
    elif rows:
        console.table("Rejected records", REJECTIONS, rows)
    else:
        console.say("no record was rejected")


def _print_tables(found: reports.Yield) -> None:
    console.table("Yield", reports.YIELD_COLUMNS, reports.yield_rows(found))
    if found.rejected:
        console.table("Why the other records are not tasks", reports.REJECTED_COLUMNS, reports.rejected_rows(found))
    if found.tries:
        console.table("Attempts at recipes, and where they failed", reports.TRY_COLUMNS, reports.try_rows(found))


def _journals(settings: Settings, sources: Path | None) -> tuple[list[journal.Finished], list[journal.ItemFailed]]:
    """The entries of every journal, or of a sources file's, the last of each record and journal; builds may be at work."""
    finished: list[journal.Finished] = []
    failed: list[journal.ItemFailed] = []
    paths = [journal_path(settings, sources, name) for name in SANDBOXES] if sources else (settings.sources / "builds").glob("*.jsonl")
    for path in sorted(path for path in paths if path.exists()):
        last: dict[str, journal.ItemValid | journal.ItemRejected | journal.ItemFailed] = {}
        for entry in journal.read(path):
            if not isinstance(entry, journal.ItemFailed) or isinstance(last.get(entry.source_digest), journal.ItemFailed | None):
                last[entry.source_digest] = entry
        finished += [e for e in last.values() if not isinstance(e, journal.ItemFailed)]
        failed += [e for e in last.values() if isinstance(e, journal.ItemFailed)]
    return finished, failed
