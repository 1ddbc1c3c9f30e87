"""`envfarm run`: groups of episodes on tasks, in parallel, that can be stopped and continued."""

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from envfarm.cli import console, run_elsewhere, run_summary
from envfarm.cli.asked import parse_policy, tasks_named
from envfarm.cli.run_summary import Ended
from envfarm.controller.local_pool import PoolEvent
from envfarm.core.episode import Budgets, EpisodeSpec
from envfarm.core.ids import EpisodeId, RunId, TaskDigest, episode_id
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.why import first_line, reason, verdict
from envfarm.settings import Settings, read
from envfarm.stores.catalogue_lookup import TaskRow
from envfarm.wiring import SANDBOXES, Farm
from envfarm.wiring_hosts import doorways


@click.command(short_help="Run a group of episodes on each TASK.")
@click.argument("task", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Run every valid task of the catalogue.")
@click.option(
    "--policy",
    multiple=True,
    default=("gold",),
    show_default=True,
    help="NAME or NAME:key=value,… Repeatable: a group's episodes take the policies in turn. {task} in a value is the task's digest.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Directory with tokenizer and chat template, for agent programs.",
)
@click.option("--engine", multiple=True, help="Inference engine for agent programs: name=…,kind=sglang|vllm,url=… Repeatable.")
@click.option("--server", default="", metavar="URL", help="Run on another farm, in its boxes. Its token is read from ENVFARM_TOKEN.")
@click.option("--group", type=click.IntRange(1), default=None, help="Episodes per task.  [default: one per policy]")
@click.option("--sandbox", type=click.Choice(SANDBOXES), default="local", show_default=True, help="Sandbox provider of the boxes.")
@click.option("--parallel", type=click.IntRange(1), default=None, help="Concurrent episodes.  [default: one per CPU]")
@click.option("--run", "name", default="", help="Name of the run; the same name continues it.  [default: derived from the other arguments]")
@click.option("--again-invalid", is_flag=True, help="Run episodes again that ended without a verdict.")
@click.option("--turns", type=click.IntRange(1), default=Budgets().turns, show_default=True, help="Turns per episode.")
@click.option("--tokens", type=click.IntRange(1), default=None, help="Completion tokens per episode.")
@click.option("--seconds", type=click.FloatRange(1), default=Budgets().seconds, show_default=True, help="Seconds per episode.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of a group's first episode; each further one adds 1.")
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Run a group of episodes on each TASK, and print the outcomes.

    TASK is a name, the beginning or end of a name, or the beginning of a digest.

    Exits with 1 if an episode has no verdict. Such an episode is invalid: it has no reward, not a reward of 0. Fix the cause, and
    repeat the command with --again-invalid.
    """
    if options["server"]:
        given = frozenset(name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT)
        judged = run_elsewhere.run(read(), options, given)
    else:
        judged = asyncio.run(_run(read(), options))
    if not judged:
        raise click.exceptions.Exit(1)


async def _run(settings: Settings, options: dict[str, Any]) -> bool:
    # The same person owns the farm and the key, and gives the address.
    own_key = settings.openai_api_key
    async with (
        doorways(settings, options["model"], options["engine"]) as models,
        Farm(settings, models=models, key_of=lambda _: own_key) as farm,
    ):
        rows = await tasks_named(farm, options["task"], every=options["every"])
        specs = _specs(rows, options)
        await _check_policies(farm, specs)
        ids = [s.episode_id for s in specs]
        if options["again_invalid"]:
            await farm.episodes.forget_invalid(ids)
        known = await farm.episodes.outcomes(ids)
        with console.progress("episodes", len(specs) - len(known)) as bar:
            pool = farm.pool(options["sandbox"], boxes=options["parallel"] or settings.parallel, progress=lambda e: _tell(bar, e))
            report = await pool.run(specs[0].run_id, specs, signals=True)
        outcomes = await farm.episodes.outcomes(ids)
        _print(rows, specs, outcomes)
        if report.interrupted:
            raise click.Abort
        return _judged(specs, outcomes)


async def _check_policies(farm: Farm, specs: Sequence[EpisodeSpec]) -> None:
    """Report wrong policy options before anything runs. Raises `UsageError`."""
    for spec in {s.policy.model_dump_json(): s for s in specs}.values():
        farm.policy(spec, await farm.catalogue.get(spec.task))


def _specs(rows: Sequence[TaskRow], options: dict[str, Any]) -> list[EpisodeSpec]:
    policies: Sequence[str] = options["policy"]
    members = options["group"] or len(policies)
    budgets = Budgets(turns=options["turns"], tokens=options["tokens"], seconds=options["seconds"])
    asked = repr((sorted(r.digest for r in rows), policies, members, options["sandbox"], options["seed"], *budgets.model_dump().values()))
    run_id = RunId(options["name"] or f"run-{hashlib.sha256(asked.encode()).hexdigest()[:8]}")
    return [
        EpisodeSpec(
            episode_id=episode_id(run_id, TaskDigest(row.digest), member),
            run_id=run_id,
            task=row.digest,
            member=member,
            policy=parse_policy(policies[member % len(policies)], row.digest),
            budgets=budgets,
            seed=options["seed"] + member,
            sandbox=options["sandbox"],
        )
        for row in rows
        for member in range(members)
    ]


def _tell(bar: console.Bar, event: PoolEvent) -> None:
    match event.kind:
        case "ended":
            bar.advance(f"{event.spec.episode_id}: {verdict(event.outcome)}")
        case "retrying":
            detail = event.outcome.detail if isinstance(event.outcome, Invalid) else ""
            bar.remark(f"{event.spec.episode_id}: retrying after: {first_line(detail)}")
        case _:
            bar.note(event.spec.episode_id)


def _print(rows: Sequence[TaskRow], specs: Sequence[EpisodeSpec], outcomes: dict[EpisodeId, Outcome]) -> None:
    names = {row.digest: row.name for row in rows}
    lines = []
    for spec in specs:
        outcome = outcomes.get(spec.episode_id)
        lines.append((spec.episode_id, names[spec.task], spec.policy.name, verdict(outcome), reason(outcome)))
    console.table("", ("episode", "task", "policy", "outcome", "why"), lines)
    run_summary.say([_ended(spec, outcomes.get(spec.episode_id)) for spec in specs], [specs[0].run_id])


def _ended(spec: EpisodeSpec, outcome: Outcome | None) -> Ended:
    return Ended(spec.policy.name, outcome.kind if outcome else "", outcome.reward if isinstance(outcome, Scored) else None)


def _judged(specs: Sequence[EpisodeSpec], outcomes: dict[EpisodeId, Outcome]) -> bool:
    """Whether every episode has a verdict; says what to do about those that have none."""
    if invalid := sum(isinstance(outcome, Invalid) for outcome in outcomes.values()):
        console.say(f"error: {invalid} of {len(specs)} episodes are invalid: the infrastructure failed, and they have no reward")
        console.say("hint: fix the causes shown in the table, then repeat the command with `--again-invalid`")
    if missing := len(specs) - len(outcomes):
        console.say(f"error: {missing} of {len(specs)} episodes are being run by another process")
        console.say("hint: repeat the command later: it shows their outcomes, and runs those that the other process left unfinished")
    return not invalid and not missing
