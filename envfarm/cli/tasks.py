"""`envfarm tasks`: look at what the catalogue holds. Builders add `validate`, `report`, `export` and `import` by entry point."""

import asyncio

import click

from envfarm.cli import console
from envfarm.cli.commands import LazyGroup
from envfarm.core.errors import StoreError, UsageError
from envfarm.core.plan import TestPlan
from envfarm.core.task import Task
from envfarm.core.validation import ValidationReport
from envfarm.grading import procedure
from envfarm.settings import read
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow
from envfarm.wiring import Farm


@click.group(name="tasks", cls=LazyGroup, own={"push": "envfarm.cli.push:push"}, group="envfarm.commands.tasks")
def tasks() -> None:
    """Look at tasks, check them again, take them elsewhere."""


@tasks.command(name="list")
@click.argument("text", default="")
@click.option("--kind", default="", help="repo, terminal, web or tools.")
@click.option("--language", default="", help="The language of the project.")
@click.option("--licence", default="", help="An SPDX expression.")
@click.option("--repository", default="", help="The project's name, or the end of it after the slash.")
@click.option("--state", default="valid", show_default=True, help="unchecked, valid, suspect, quarantined or any.")
def list_tasks(text: str, kind: str, language: str, licence: str, repository: str, state: str) -> None:
    """List tasks whose name holds TEXT."""
    wanted = TaskFilter(
        kind=kind, language=language, licence=licence, repository=repository, state="" if state == "any" else state, text=text
    )
    rows = asyncio.run(_rows(wanted))
    if not rows:
        console.say("no task fits. `envfarm build` mints some; `--state any` shows those that are not valid")
        return
    columns = ("task", "digest", "language", "licence", "state", "valid in")
    console.table("", columns, [(r.name, r.digest[:19], r.language, r.licence, r.state, ", ".join(r.providers)) for r in rows])


async def _rows(wanted: TaskFilter) -> list[TaskRow]:
    async with Farm(read()) as farm:
        return await farm.catalogue.rows(wanted)


@tasks.command(short_help="Keep TASK out of what is valid.")
@click.argument("task")
@click.option("--why", default="", help="What is wrong with it.")
@click.option("--lift", is_flag=True, help="End the quarantine: the task is what its newest report says.")
def quarantine(task: str, *, why: str, lift: bool) -> None:
    """Keep TASK out of what is valid, whatever its reports say, until a person lifts that."""
    if lift == bool(why.strip()):
        raise UsageError("say either --why or --lift", hint='for example --why "its tests ask for what the instruction does not say"')
    row = asyncio.run(_quarantine(task, why.strip()))
    console.say(f"{row.name} is {row.state}" + (f": {row.why}" if row.why else ""))


async def _quarantine(text: str, why: str) -> TaskRow:
    async with Farm(read()) as farm:
        row = await farm.catalogue.find(text)
        if why:
            await farm.catalogue.quarantine(row.digest, why)
        elif not await farm.catalogue.lift_quarantine(row.digest):
            hint = "`envfarm tasks list --state quarantined` shows those that are"
            raise UsageError(f"{row.name} is not quarantined: it is {row.state}", hint=hint)
        return await farm.catalogue.find(row.digest)


@tasks.command(short_help="Make the index anew from the archives.")
def reindex() -> None:
    """Put every archive of the catalogue back into its index, and name those that are damaged."""
    added, damaged = asyncio.run(_reindex())
    for error in damaged:
        console.say(f"error: {error}")
    if damaged:
        console.say(f"hint: {damaged[0].hint}")
    console.say(f"{added} tasks were missing in the index, {len(damaged)} archives are damaged")
    if damaged:
        raise click.exceptions.Exit(1)


async def _reindex() -> tuple[int, list[StoreError]]:
    async with Farm(read()) as farm:
        return await farm.catalogue.reindex()


@tasks.command(short_help="Show one task, and what was seen of it.")
@click.argument("task")
def show(task: str) -> None:
    """Show one task: what the agent is told, how it is graded, and what was seen when it was checked."""
    found, row, reports = asyncio.run(_one(task))
    plan = found.plan
    facts = [
        ("name", found.name),
        ("digest", row.digest),
        ("state", f"{row.state}: {row.why}" if row.why else row.state),
        ("kind", f"{found.kind}, {found.language} {found.recipe.toolchain.version}"),
        ("source", row.source_url),
        ("licence", f"{found.attribution.licence}{f', {found.attribution.author}' if found.attribution.author else ''}"),
        ("created", f"{found.created_at:%Y-%m-%d}"),
        ("work dir", plan.work_dir),
        ("must pass", f"{len(plan.fail_to_pass)} that fail before the fix, {len(plan.pass_to_pass)} that pass before it"),
        ("left out", f"{len(plan.skipped)} tests" if plan.skipped else "no test"),
        ("canaries", _canaries(plan)),
        ("checked in", "; ".join(_checked(r) for r in reports) or "no box yet"),
    ]
    console.table("", ("", ""), facts)
    console.out.print()
    console.out.print(found.instruction, markup=False)


def _canaries(plan: TestPlan) -> str:
    if not plan.canaries:
        return "none"
    bound = procedure.bounds_guesses(plan)
    unaltered = sum(canary.unaltered for canary in plan.canaries)
    told = "which bound what a guess scores" if bound else "which whoever reads them can tell apart: no bound"
    return f"{len(plan.canaries) - unaltered}, {told}; {unaltered} unaltered copies of other tests"


async def _one(text: str) -> tuple[Task, TaskRow, list[ValidationReport]]:
    async with Farm(read()) as farm:
        row = await farm.catalogue.find(text)
        return await farm.catalogue.get(row.digest), row, await farm.catalogue.reports(row.digest)


def _checked(report: ValidationReport) -> str:
    return f"{report.provider} on {report.created_at:%Y-%m-%d}: {'every gate passed' if report.passed else report.in_words}"
