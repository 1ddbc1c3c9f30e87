"""`envfarm tasks push`: tasks of this catalogue into a farm elsewhere, with all that their boxes are made of.

A farm that makes environments gets a task and its checkout. One that does not (it runs in pods, where nothing builds) gets an environment
that is built here, with Docker, and pushed to a registry that its nodes pull from.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from envfarm.cli import console, server
from envfarm.cli.asked import tasks_named
from envfarm.client import AsyncClient
from envfarm.client.calls import CatalogueInfo, Missing
from envfarm.core.errors import EnvfarmError, StoreError, UsageError
from envfarm.core.ids import Digest
from envfarm.core.image import Environment
from envfarm.core.task import Task
from envfarm.settings import Settings, read
from envfarm.stores import catalogue_archive
from envfarm.stores.catalogue import pack_report
from envfarm.stores.catalogue_lookup import TaskRow
from envfarm.wiring import Farm


class Brought(NamedTuple):
    """What came of one task."""

    row: TaskRow
    image: str
    """Of its environment; empty where the farm makes it, or where it failed."""
    error: EnvfarmError | None = None


@click.command(short_help="Bring each TASK into a farm elsewhere.")
@click.argument("task", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every valid task of the catalogue.")
@click.option("--server", required=True, metavar="URL", help="The farm; its token, of the scope `catalogue`, is in ENVFARM_TOKEN.")
@click.option("--registry", default="", metavar="HOST/PATH", help="Where environments of pods are pushed to.  [default: ENVFARM_REGISTRY]")
@click.option("--parallel", type=click.IntRange(1), default=None, help="Environments built at once.  [default: one per CPU]")
def push(**options: Any) -> None:
    """Bring each TASK (a name, or the beginning of a name or digest) into a farm elsewhere: its archive, environment and reports.

    Safe to repeat: what is there is left alone. Ends with 1 where a task could not be brought.
    """
    settings = read()
    settings = settings.model_copy(update={"registry": options["registry"].rstrip("/") or settings.registry})
    brought = asyncio.run(_push(settings, options))
    console.table("", ("task", "digest", "state", "environment"), [_line(each) for each in brought])
    for each in brought:
        if each.error:
            console.say(f"error: {each.row.name}: {each.error}" + (f"\nhint: {each.error.hint}" if each.error.hint else ""))
    if any(each.error for each in brought):
        raise click.exceptions.Exit(1)
    _warn(brought)
    chosen = "--all" if options["every"] else " ".join(options["task"])
    console.say(f"to play them there: envfarm run {chosen} --server {options['server']} --policy gold --policy nop")


def _warn(brought: Sequence[Brought]) -> None:
    """A task that was checked in boxes over this machine's own files may lack them in an image."""
    unsure = [each.row for each in brought if each.image and not set(each.row.providers) - {"local"}]
    if unsure:
        console.say(
            f"{len(unsure)} of these were not checked in boxes of images, where a program of this machine may be missing: gold shows it,"
        )
        console.say(f"and so does, before they are pushed, for example: envfarm tasks validate {unsure[0].name} --sandbox docker")


def _line(each: Brought) -> tuple[object, ...]:
    return each.row.name, each.row.digest[:19], "not brought" if each.error else each.row.state, each.image


async def _push(settings: Settings, options: dict[str, Any]) -> list[Brought]:
    async with Farm(settings) as farm, AsyncClient(server.address(options["server"]), server.token(settings)) as there:
        rows = await tasks_named(farm, options["task"], every=options["every"])
        about = await there.catalogue()
        if not about.builds and not farm.builds(about.sandbox):
            hint = "--registry HOST/PATH, which its nodes pull from, or ENVFARM_REGISTRY"
            raise UsageError("that farm makes no environments: they are built here, and pushed to a registry", hint=hint)
        return await _bring_all(farm, there, about, rows, at_once=options["parallel"] or settings.parallel)


async def _bring_all(farm: Farm, there: AsyncClient, about: CatalogueInfo, rows: Sequence[TaskRow], *, at_once: int) -> list[Brought]:
    slots = asyncio.Semaphore(at_once)
    with console.progress("tasks", len(rows)) as bar:

        async def one(row: TaskRow) -> Brought:
            async with slots:
                bar.note(row.name)
                try:
                    image, error = await _bring(farm, there, about, row), None
                except EnvfarmError as e:  # of this task; the others go on
                    image, error = "", e
                bar.advance(row.name)
                return Brought(row, image, error)

        return list(await asyncio.gather(*map(one, rows)))


async def _bring(farm: Farm, there: AsyncClient, about: CatalogueInfo, row: TaskRow) -> str:
    """Reports last: until then the task is not valid there. The environment's image, where one was made."""
    task = await farm.catalogue.get(row.digest)
    environment = None if about.builds else await farm.environment(task, about.sandbox)
    blob = _checkout(task, environment)
    lacking = await there.missing(Missing(tasks=(row.digest,), blobs=(blob,) if blob else ()))
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
        raise StoreError(f"{what} has {size_bytes} bytes, and that farm takes {most_bytes}")
