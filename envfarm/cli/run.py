"""`envfarm run`: groups of episodes on tasks, in parallel, that can be stopped and gone on with."""

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
@click.option("--all", "every", is_flag=True, help="Every valid task of the catalogue.")
@click.option(
    "--policy",
    multiple=True,
    default=("gold",),
    show_default=True,
    help="NAME or NAME:key=value,key=value. Several take turns in a group. {task} in a value is the task's digest.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=None,
    help="Tokenizer and chat template, for programs.",
)
@click.option("--engine", multiple=True, help="One that samples for programs: name=…,kind=sglang|vllm,url=…")
@click.option("--server", default="", metavar="URL", help="A farm elsewhere plays, in its own boxes; its token is in ENVFARM_TOKEN.")
@click.option("--group", type=click.IntRange(1), default=None, help="Episodes per task.  [default: one per policy]")
@click.option("--sandbox", type=click.Choice(SANDBOXES), default="local", show_default=True, help="Whose boxes.")
@click.option("--parallel", type=click.IntRange(1), default=None, help="Episodes at once.  [default: one per CPU]")
@click.option("--run", "name", default="", help="The same name goes on where it was stopped.  [default: drawn from what is asked]")
@click.option("--again-invalid", is_flag=True, help="Play those episodes again that came to no verdict.")
@click.option("--turns", type=click.IntRange(1), default=Budgets().turns, show_default=True)
@click.option("--tokens", type=click.IntRange(1), default=None, help="Completion tokens per episode.")
@click.option("--seconds", type=click.FloatRange(1), default=Budgets().seconds, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.pass_context
def run(context: click.Context, /, **options: Any) -> None:
    """Run a group of episodes on each TASK (a name, or the beginning or end of one, or the beginning of a digest), and print the outcomes.

    Ends with 1 where an episode came to no verdict: such an episode is invalid, and not a zero. Once what was wrong is mended, the same
    command with --again-invalid plays it again.
    """
    if options["server"]:
        given = frozenset(name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT)
        judged = run_elsewhere.run(read(), options, given)
    else:
        judged = asyncio.run(_run(read(), options))
    if not judged:
        raise click.exceptions.Exit(1)


async def _run(settings: Settings, options: dict[str, Any]) -> bool:
    # Whose farm it is, whose key it is and who gives the address are one person.
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
    """A wrong option is a person's mistake, told before anything runs. Raises `UsageError`."""
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
            bar.remark(f"{event.spec.episode_id}: again, after {first_line(detail)}")
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
    """Whether every episode came to a verdict; says what to do about those that did not."""
    if invalid := sum(isinstance(outcome, Invalid) for outcome in outcomes.values()):
        console.say(f"error: {invalid} of {len(specs)} episodes are invalid: not the policy's failures, and not zeros")
        console.say("hint: mend what the table names; then the same command with `--again-invalid` plays them again")
    if missing := len(specs) - len(outcomes):
        console.say(f"error: {missing} of {len(specs)} episodes are still with another process")
        console.say("hint: the same command shows them when that one is done, and plays them where it died")
    return not invalid and not missing
