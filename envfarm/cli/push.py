"""`envfarm tasks push`: uploads tasks of this catalogue to another farm, with what their boxes need.

A farm that builds environments gets the task and its checkout. For one that does not (it runs pods, where nothing is built), the
environment is built here with Docker and pushed to a registry that its nodes pull from.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from envfarm.cli import console, server
from envfarm.cli.options import every_option, tasks_named
from envfarm.client import AsyncClient
from envfarm.core.errors import EnvfarmError, StoreError, UsageError
from envfarm.core.ids import Digest
from envfarm.core.image import Environment
from envfarm.core.listing import CatalogueInfo, TasksAndBlobs
from envfarm.core.task import Task
from envfarm.settings import Settings, read
from envfarm.stores import catalogue_archive
from envfarm.stores.catalogue import pack_report
from envfarm.stores.catalogue_lookup import TaskRow
from envfarm.wiring import Farm


class Pushed(NamedTuple):
    """The result for one task."""

    row: TaskRow
    image: str
    """Of its environment; empty if the farm builds it, or after a failure."""
    error: EnvfarmError | None = None


@click.command(short_help="Upload each TASK to another farm.")
@click.argument("task", nargs=-1)
@every_option
@click.option(
    "--server", required=True, metavar="URL", help="The farm's address. Its token, with scope `catalogue`, is read from ENVFARM_TOKEN."
)
@click.option(
    "--registry", default="", metavar="HOST/PATH", help="Registry that environments for pods are pushed to.  [default: ENVFARM_REGISTRY]"
)
@click.option(
    "--parallel",
    type=click.IntRange(1),
    default=None,
    help="Concurrent uploads and builds.  [default: ENVFARM_PARALLEL, or the number of CPUs]",
)
def push(**options: Any) -> None:
    """Upload each TASK (a name, or the beginning of a name or digest) to another farm: its archive, environment and reports.

    May be repeated: what the farm has is skipped. Exits with 1 if a task could not be uploaded.
    """
    settings = read()
    settings = settings.model_copy(update={"registry": options["registry"].rstrip("/") or settings.registry})
    pushed = asyncio.run(_push(settings, options))
    console.table("", ("task", "digest", "state", "environment"), [_line(each) for each in pushed])
    for each in pushed:
        if each.error:
            console.say(f"error: {each.row.name}: {each.error}" + (f"\nhint: {each.error.hint}" if each.error.hint else ""))
    if any(each.error for each in pushed):
        raise click.exceptions.Exit(1)
    _warn(pushed)
    chosen = "--all" if options["every"] else " ".join(options["task"])
    console.say(f"to run them there: envfarm run {chosen} --server {options['server']} --policy gold --policy nop")


def _warn(pushed: Sequence[Pushed]) -> None:
    """Warn of tasks validated only in local boxes, which show this machine's files: an image may lack some of them."""
    unsure = [each.row for each in pushed if each.image and not set(each.row.providers) - {"local"}]
    if unsure:
        console.say(
            f"{len(unsure)} of these were validated in local boxes only; their images may lack programs of this machine. Run gold to check,"
        )
        console.say(f"or validate them in images before the upload, for example: envfarm tasks validate {unsure[0].name} --sandbox docker")


def _line(each: Pushed) -> tuple[object, ...]:
    return each.row.name, each.row.digest[:19], "failed" if each.error else each.row.state, each.image


async def _push(settings: Settings, options: dict[str, Any]) -> list[Pushed]:
    async with Farm(settings) as farm, AsyncClient(server.address(options["server"]), server.token(settings)) as there:
        rows = await tasks_named(farm, options["task"], every=options["every"])
        about = await there.catalogue()
        if not about.builds and not farm.builds(about.sandbox):
            hint = "give --registry HOST/PATH, or set ENVFARM_REGISTRY, to a registry that its nodes pull from"
            raise UsageError("that farm builds no environments, so they are built here and need a registry", hint=hint)
        return await _push_all(farm, there, about, rows, at_once=options["parallel"] or settings.parallel)


async def _push_all(farm: Farm, there: AsyncClient, about: CatalogueInfo, rows: Sequence[TaskRow], *, at_once: int) -> list[Pushed]:
    slots = asyncio.Semaphore(at_once)
    with console.progress("tasks", len(rows)) as bar:

        async def one(row: TaskRow) -> Pushed:
            async with slots:
                bar.note(row.name)
                try:
                    image, error = await _push_one(farm, there, about, row), None
                except EnvfarmError as e:  # concerns this task only; the others continue
                    image, error = "", e
                bar.advance(row.name)
                return Pushed(row, image, error)

        return list(await asyncio.gather(*map(one, rows)))


async def _push_one(farm: Farm, there: AsyncClient, about: CatalogueInfo, row: TaskRow) -> str:
    """Upload one task. Returns the environment's image, if one was built. Reports come last: they make the task valid there."""
    task = await farm.catalogue.get(row.digest)
    environment = None if about.builds else await farm.environment(task, about.sandbox)
    blob = _checkout(task, environment)
    lacking = await there.missing(TasksAndBlobs(tasks=(row.digest,), blobs=(blob,) if blob else ()))
    for digest in lacking.blobs:
        data = await farm.blobs.get(digest)
        _check_size("the checkout", len(data), about.max_blob_bytes)
        await there.put_blob(digest, data)
    if lacking.tasks:
        archive = catalogue_archive.pack(task)
        _check_size("the archive", len(archive), about.max_archive_bytes)
        await there.put_task(row.digest, archive, repository=row.repository, source_digest=row.source_digest)
    if environment is not None:
        await there.put_environment(row.digest, environment)
    for report in sorted(await farm.catalogue.reports(row.digest), key=lambda r: r.created_at):
        packed = pack_report(report)
        _check_size("a report", len(packed), about.max_archive_bytes)
        await there.put_report(row.digest, packed)
    return environment.image.reference if environment else ""


def _checkout(task: Task, environment: Environment | None) -> Digest | None:
    if environment is None:
        return task.checkout
    return environment.checkout.digest if environment.checkout else None


def _check_size(what: str, size_bytes: int, most_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise StoreError(f"{what} has {size_bytes} bytes, and that farm accepts at most {most_bytes}")
