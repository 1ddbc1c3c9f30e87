"""`envfarm tasks`: shows the catalogue's tasks. `task_builders` adds commands by entry point (`validate`, `report`, `export`, …)."""

import asyncio
from collections.abc import Sequence

import click

from envfarm.cli import console
from envfarm.cli.commands import LazyGroup
from envfarm.cli.options import filter_state, state_option
from envfarm.core import difficulty
from envfarm.core.candidate import Gate
from envfarm.core.errors import UsageError
from envfarm.core.plan import TestPlan
from envfarm.core.task import Task
from envfarm.core.validation import ValidationReport, grading_in_words
from envfarm.settings import read
from envfarm.stores.catalogue import Reindexed
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow
from envfarm.wiring import Farm


@click.group(name="tasks", cls=LazyGroup, own={"push": "envfarm.cli.push:push"}, group="envfarm.commands.tasks")
def tasks() -> None:
    """List, show, validate, import and export tasks."""


@tasks.command(name="list")
@click.argument("text", default="")
@click.option("--kind", default="", help="Kind: repo, terminal, web or tools.")
@click.option("--language", default="", help="The project's programming language.")
@click.option("--licence", default="", help="Licence, as an SPDX expression.")
@click.option("--repository", default="", help="The project's name, or its part after the slash.")
@state_option
def list_tasks(text: str, kind: str, language: str, licence: str, repository: str, state: str | None) -> None:
    """List tasks whose name contains TEXT."""
    wanted = TaskFilter(kind=kind, language=language, licence=licence, repository=repository, state=filter_state(state), text=text)
    rows = asyncio.run(_rows(wanted))
    if not rows:
        console.say("no task matches; `--state any` includes tasks that are not valid, and `envfarm build` mints new ones")
        return
    columns = ["task", "digest", "language", "licence", "state", "valid in", "title"]
    cells = [[r.name, r.digest[:19], r.language, r.licence, r.state, ", ".join(r.providers), r.title] for r in rows]
    if console.out.is_terminal:  # the room is the title's; `envfarm tasks show` tells the digest
        for line in (columns, *cells):
            del line[1]
    console.table("", columns, cells, cut=True)
    if untitled := sum(not r.title for r in rows):
        console.say(f"{untitled} of these tasks were added by an earlier version: `envfarm tasks reindex` reads their titles")


async def _rows(wanted: TaskFilter) -> list[TaskRow]:
    async with Farm(read()) as farm:
        return await farm.catalogue.rows(wanted)


@tasks.command(short_help="Quarantine TASK, so that it does not count as valid.")
@click.argument("task")
@click.option("--why", default="", help="Why the task is quarantined.")
@click.option("--lift", is_flag=True, help="End the quarantine: the reports decide the task's state again.")
def quarantine(task: str, *, why: str, lift: bool) -> None:
    """Quarantine TASK: it does not count as valid, whatever its reports say, until the quarantine is lifted."""
    if lift == bool(why.strip()):
        raise UsageError("give either --why or --lift", hint='for example --why "its tests check what the instruction does not say"')
    row = asyncio.run(_quarantine(task, why.strip()))
    console.say(f"{row.name} is {row.state}" + (f": {row.why}" if row.why else ""))


async def _quarantine(text: str, why: str) -> TaskRow:
    async with Farm(read()) as farm:
        row = await farm.catalogue.find(text)
        if why:
            await farm.catalogue.quarantine(row.digest, why)
        elif not await farm.catalogue.lift_quarantine(row.digest):
            hint = "`envfarm tasks list --state quarantined` lists quarantined tasks"
            raise UsageError(f"{row.name} is not quarantined: it is {row.state}", hint=hint)
        return await farm.catalogue.find(row.digest)


@tasks.command(short_help="Rebuild the index from the catalogue's files.")
def reindex() -> None:
    """Add tasks and datasets that are missing in the catalogue's index, with reports and quarantines, and report damaged files."""
    done = asyncio.run(_reindex())
    for error in done.damaged:
        console.say(f"error: {error}")
    for hint in dict.fromkeys(error.hint for error in done.damaged if error.hint):
        console.say(f"hint: {hint}")
    console.say(f"{done.tasks} missing tasks and {done.datasets} missing datasets were added to the index")
    if done.titles:
        console.say(f"{done.titles} titles were added for tasks of an earlier version")
    if done.bare:
        console.say(f"{done.bare} of these tasks are unchecked: an earlier version kept their reports and quarantines in the index alone")
    if done.damaged:
        console.say(f"{len(done.damaged)} files or entries are damaged")
        raise click.exceptions.Exit(1)


async def _reindex() -> Reindexed:
    async with Farm(read()) as farm:
        return await farm.catalogue.reindex()


@tasks.command(short_help="Show TASK and its validation.")
@click.argument("task")
def show(task: str) -> None:
    """Show TASK: its instruction, how it is graded, and the results of its validation."""
    found, row, reports = asyncio.run(_one(task))
    plan = found.plan
    facts = [
        ("name", found.name),
        ("digest", row.digest),
        ("state", f"{row.state}: {row.why}" if row.why else row.state),
        ("kind", f"{found.kind}, {found.language} {found.recipe.toolchain.version}"),
        ("source", row.source_url),
        ("licence", found.attribution.licence),
        ("author", found.attribution.author or "unknown"),
        ("difficulty", f"{difficulty.estimate(found)}, by the length of its solution"),
        ("created", f"{found.created_at:%Y-%m-%d}"),
        ("work dir", plan.work_dir),
        ("must pass", _must_pass(plan)),
        ("graded", grading_in_words(plan)),
        ("left out", f"{len(plan.skipped)} tests" if plan.skipped else "no tests"),
        ("canaries", _canaries(plan, reports)),
        ("validated in", "; ".join(_checked(r) for r in reports) or "no sandbox yet"),
    ]
    console.table("", ("", ""), facts)
    console.out.print()
    console.out.print(found.instruction, markup=False)


def _must_pass(plan: TestPlan) -> str:
    if plan.cases:
        return f"{len(plan.cases)} cases, of which {sum(not case.visible for case in plan.cases)} are held out"
    return f"{len(plan.fail_to_pass)} tests that fail before the fix, {len(plan.pass_to_pass)} that also pass before it"


def _canaries(plan: TestPlan, reports: Sequence[ValidationReport]) -> str:
    if not plan.canaries:
        return "none needed: outputs are compared outside the box" if plan.cases else "none"
    told = (gate.detail for report in reports for gate in report.gates if gate.gate == Gate.CANARIES)
    unaltered = sum(canary.unaltered for canary in plan.canaries)
    return f"{len(plan.canaries) - unaltered} altered or renamed, {unaltered} unaltered: {next(told, 'no sandbox has judged them yet')}"


async def _one(text: str) -> tuple[Task, TaskRow, list[ValidationReport]]:
    async with Farm(read()) as farm:
        row = await farm.catalogue.find(text)
        return await farm.catalogue.get(row.digest), row, await farm.catalogue.reports(row.digest)


def _checked(report: ValidationReport) -> str:
    said = "every gate passed" if report.passed else report.in_words
    return f"{report.provider} on {report.created_at:%Y-%m-%d}: {said}; {report.graded_in_words}"
