"""`envfarm run`: groups of episodes on tasks, in parallel, that can be stopped and continued."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from envfarm.cli import console, run_elsewhere, run_summary
from envfarm.cli.options import (
    asked_budgets,
    check_run_name,
    engine_option,
    every_option,
    model_option,
    parse_engines,
    parse_policy,
    sandbox_option,
    say_unsure,
    tasks_named,
)
from envfarm.cli.run_summary import Ended
from envfarm.controller.local_pool import PoolEvent
from envfarm.controller.refusals import GivenUp
from envfarm.core.episode import SEEDS, Budgets, EpisodeSpec, derived_seed
from envfarm.core.ids import EpisodeId, RunId, TaskDigest, episode_id
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.why import counted, first_line, reason, verdict
from envfarm.settings import Settings, read
from envfarm.stores.catalogue_lookup import TaskRow
from envfarm.wiring import Farm
from envfarm.wiring_hosts import doorways


@click.command(short_help="Run a group of episodes on each TASK.")
@click.argument("task", nargs=-1)
@every_option
@click.option(
    "--policy",
    multiple=True,
    default=("gold",),
    show_default=True,
    help="NAME, NAME:key=value,…, NAME:{JSON} or NAME:@FILE.toml (docs/settings.md). {task} is replaced by the task's digest. "
    "Repeatable: the episodes of a group take the policies in turn.",
)
@model_option()
@engine_option()
@click.option("--server", default="", metavar="URL", help="Run on another farm, in its boxes. Its token is read from ENVFARM_TOKEN.")
@click.option("--group", type=click.IntRange(1), default=None, help="Episodes per task.  [default: one per policy]")
@sandbox_option
@click.option(
    "--parallel", type=click.IntRange(1), default=None, help="Concurrent episodes.  [default: ENVFARM_PARALLEL, or the number of CPUs]"
)
@click.option("--run", "name", default="", help="Name of the run; the same name continues it.  [default: derived from the other arguments]")
@click.option("--retry-invalid", is_flag=True, help="Rerun the episodes that ended without a verdict.")
@click.option("--turns", type=click.IntRange(1), default=Budgets().turns, show_default=True, help="Turns per episode.")
@click.option("--tokens", type=click.IntRange(1), default=None, help="Completion tokens per episode.  [default: no limit]")
@click.option("--seconds", type=click.FloatRange(1), default=Budgets().seconds, show_default=True, help="Seconds per episode.")
@click.option(
    "--seed", type=click.IntRange(0, SEEDS - 1), default=None, help="Seed of the models' sampling.  [default: another for each run]"
)
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Run a group of episodes on each TASK, and print the outcomes.

    TASK is a name, the beginning or end of a name, or the beginning of a digest.

    Exits with 1 if an episode has no verdict. Such an episode is invalid: it has no reward, not a reward of 0. Fix the cause, and
    repeat the command with --retry-invalid.
    """
    check_run_name(options["name"])
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
        doorways(settings, options["model"], parse_engines(options["engine"])) as models,
        Farm(settings, models=models, key_of=lambda _: own_key) as farm,
    ):
        rows = await tasks_named(farm, options["task"], every=options["every"])
        specs = _specs(rows, options)
        await _check_policies(farm, specs)
        say_unsure([row.state for row in rows])
        ids = [s.episode_id for s in specs]
        if options["retry_invalid"]:
            await farm.episodes.forget_invalid(ids)
        known = await farm.episodes.outcomes(ids)
        with console.progress("episodes", len(specs) - len(known)) as bar:
            pool = farm.pool(options["sandbox"], boxes=options["parallel"] or settings.parallel, progress=lambda e: _show_event(bar, e))
            report = await pool.run(specs[0].run_id, specs, signals=True)
        outcomes = await farm.episodes.outcomes(ids)
        _print(rows, specs, outcomes)
        if report.interrupted:
            raise click.Abort
        return _judged(specs, outcomes, report.given_up)


async def _check_policies(farm: Farm, specs: Sequence[EpisodeSpec]) -> None:
    """Report wrong policy options before anything runs. Raises `UsageError`."""
    for spec in {s.policy.model_dump_json(): s for s in specs}.values():
        farm.policy(spec, await farm.catalogue.get(spec.task))


def _specs(rows: Sequence[TaskRow], options: dict[str, Any]) -> list[EpisodeSpec]:
    policies: Sequence[str] = options["policy"]
    members = options["group"] or len(policies)
    budgets = asked_budgets(options)
    played = [parse_policy(policy, "{task}").model_dump_json() for policy in policies]
    asked = repr((sorted(r.digest for r in rows), played, members, options["sandbox"], options["seed"], *budgets.model_dump().values()))
    run_id = RunId(options["name"] or f"run-{hashlib.sha256(asked.encode()).hexdigest()[:8]}")
    # Of the run's name, so that a run that is continued has the same.
    seed = derived_seed(run_id) if options["seed"] is None else options["seed"]
    return [
        EpisodeSpec(
            episode_id=episode_id(run_id, TaskDigest(row.digest), member),
            run_id=run_id,
            task=row.digest,
            member=member,
            policy=parse_policy(policies[member % len(policies)], row.digest),
            budgets=budgets,
            seed=seed + member,
            sandbox=options["sandbox"],
        )
        for row in rows
        for member in range(members)
    ]


def _show_event(bar: console.Bar, event: PoolEvent) -> None:
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


def _judged(specs: Sequence[EpisodeSpec], outcomes: dict[EpisodeId, Outcome], given_up: Sequence[GivenUp]) -> bool:
    """Whether every episode has a verdict; says what to do about those that have none."""
    missing = [spec for spec in specs if spec.episode_id not in outcomes]
    for policy, refusal in given_up:
        left = counted(sum(spec.policy == policy for spec in missing), "further episode")
        console.say(f"error: the endpoint of {policy.name} refused every episode so far; {left} not run: {refusal}")
    invalid = sum(isinstance(outcome, Invalid) for outcome in outcomes.values())
    run_summary.say_invalid(invalid, len(specs), what_to_do="repeat the command with `--retry-invalid`")
    refused = [policy for policy, _ in given_up]
    if elsewhere := sum(spec.policy not in refused for spec in missing):
        console.say(f"error: another process is running {elsewhere} of {counted(len(specs), 'episode')}")
        console.say("hint: repeat the command later: it shows their outcomes, and runs those that the other process left unfinished")
    return not invalid and not missing
