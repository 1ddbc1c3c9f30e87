"""`envfarm tasks export` and `envfarm tasks import`: tasks as directories, for other farms and other runners. Reached by entry point."""

import asyncio
import importlib.metadata
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import click

from envfarm.cli import console
from envfarm.core import digest
from envfarm.core.errors import EnvfarmError, TaskError, UsageError
from envfarm.core.task import Task
from envfarm.settings import read
from envfarm.stores import task_dir
from envfarm.stores.catalogue_lookup import TaskRow
from envfarm.wiring import Farm
from task_builders.formats import credit, harbor, terminal_bench

CHECKOUT = f"environment/{harbor.CHECKOUT}"
"""Where the checkout's archive lies in a directory, whatever its format."""


@click.command(name="export", short_help="Write TASKS as directories.")
@click.argument("tasks", nargs=-1, required=True)
@click.option(
    "--format",
    "shape",
    type=click.Choice(["harbor", "terminal-bench", "envfarm"]),
    default="harbor",
    show_default=True,
    help="Who is to read them.",
)
@click.option("--to", "directory", required=True, type=click.Path(path_type=Path), help="New directory; gets a directory for each task.")
@click.option("--shared-verifier", is_flag=True, help="Verify in the agent's container: only for runners that cannot start a second one.")
@click.option("--open-network", is_flag=True, help="Give the agent network access: only for hosts that cannot close the network.")
def export_tasks(tasks: tuple[str, ...], shape: str, directory: Path, *, shared_verifier: bool, open_network: bool) -> None:
    """Write TASKS as directories: for Harbor or Terminal-Bench, which build the image and grade, or for another envfarm."""
    if shape != "harbor" and (shared_verifier or open_network):
        raise click.UsageError("--shared-verifier and --open-network are for --format harbor")
    options = harbor.Options(uv_version=importlib.metadata.version("uv"), shared=shared_verifier, open_network=open_network)
    writers: dict[str, Writer] = {
        "harbor": partial(harbor.export, options=options),
        "terminal-bench": partial(terminal_bench.export, uv_version=options.uv_version),
        "envfarm": as_it_is,
    }
    written = asyncio.run(_export(tasks, directory, writers[shape]))
    console.table("", ("task", "directory"), [(row.name, path) for row, path in written])
    if shared_verifier:
        console.say("the agent can tamper with a shared verifier: inspect episodes before you train on their rewards")
    if shape == "terminal-bench":
        console.say("Terminal-Bench has one container with network access: the agent can tamper with what the tests run on")
    if open_network:
        console.say("with an open network, the agent can fetch the published fix: do not train on these rewards")


class Writer(Protocol):
    """Writes one task's directory. Raises `TaskError`, `ImageError`."""

    def __call__(self, task: Task, directory: Path, *, checkout: bytes | None) -> None:
        """`checkout` is the checkout blob's archive, rooted at `/`."""


def as_it_is(task: Task, directory: Path, *, checkout: bytes | None) -> None:
    """Write the directory for another envfarm."""
    extra = {"README.md": credit.readme(task).encode()}
    task_dir.write(task, directory, extra if checkout is None else {**extra, CHECKOUT: checkout})


async def _export(names: Sequence[str], directory: Path, write: Writer) -> list[tuple[TaskRow, Path]]:
    async with Farm(read()) as farm:
        rows = list({row.digest: row for row in [await farm.catalogue.find(name) for name in names]}.values())
        targets = {row.digest: directory / _folder(row, rows) for row in rows}
        with _new(directory):
            for row in rows:
                task = await farm.catalogue.get(row.digest)
                checkout = await farm.blobs.get(task.checkout) if task.checkout else None
                await asyncio.to_thread(write, task, targets[row.digest], checkout=checkout)
    return [(row, targets[row.digest]) for row in rows]


def _folder(row: TaskRow, rows: Sequence[TaskRow]) -> str:
    """The end of the name, which is what Harbor calls the task; with some of the digest where two end alike."""
    end = row.name.rpartition("/")[2]
    alike = sum(other.name.rpartition("/")[2] == end for other in rows)
    return end if alike == 1 else f"{end}-{row.digest[7:15]}"


@contextmanager
def _new(directory: Path) -> Iterator[None]:
    """A directory that was not there, or was empty; as it was before where the work fails. Raises `UsageError` and `TaskError`."""
    try:
        was_there = directory.exists()
        if was_there and (not directory.is_dir() or any(directory.iterdir())):
            what = "is not empty" if directory.is_dir() else "is a file"
            raise UsageError(f"{directory} {what}, and nothing there is overwritten", hint="name a directory that does not exist yet")
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise TaskError(f"{directory} cannot be made: {e.strerror}", hint="name a directory that you may write") from e
    try:
        yield
    except BaseException:
        for left in directory.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        if not was_there:
            directory.rmdir()
        raise


@click.command(name="import", short_help="Import task DIRECTORIES into the catalogue.")
@click.argument("directories", nargs=-1, required=True, type=click.Path(path_type=Path))
def import_tasks(directories: tuple[Path, ...]) -> None:
    """Import task DIRECTORIES, as `envfarm tasks export` writes them. The tasks are unchecked until they are validated."""
    rows = asyncio.run(_import(directories))
    console.table("", ("task", "digest", "state"), [(row.name, row.digest[:19], row.state) for row in rows])
    if unchecked := [row.digest.removeprefix("sha256:")[:12] for row in rows if row.state == "unchecked"]:
        console.say(f"to validate them: envfarm tasks validate {' '.join(unchecked)}")


async def _import(directories: Sequence[Path]) -> list[TaskRow]:
    # All are read before the first is kept: a wrong one among them leaves the catalogue as it was.
    found = [await asyncio.to_thread(_task_and_checkout, directory) for directory in directories]
    async with Farm(read()) as farm:
        rows = []
        for directory, (task, checkout) in zip(directories, found, strict=True):
            if checkout is not None:
                await farm.blobs.put(checkout)
            elif task.checkout:
                try:
                    await farm.blobs.get(task.checkout)
                except EnvfarmError as e:
                    raise TaskError(f"{directory / CHECKOUT} is missing", hint="export the task again where it is known") from e
            rows.append(await farm.catalogue.find(await farm.catalogue.add(task)))
        return rows


def _task_and_checkout(directory: Path) -> tuple[Task, bytes | None]:
    try:
        task = task_dir.read(directory)
    except TaskError as e:
        raise TaskError(str(e), hint=e.hint or "each directory is one task, as `envfarm tasks export` writes it") from e
    path = directory / CHECKOUT
    if not task.checkout or not path.exists():
        return task, None
    try:
        archive = path.read_bytes()
    except OSError as e:
        raise TaskError(f"{path} cannot be read: {e.strerror}") from e
    if digest.of_bytes(archive) != task.checkout:
        raise TaskError(f"{path} is not the checkout that task.toml names", hint="export the task again where it is known")
    return task, archive
