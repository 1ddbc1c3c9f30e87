"""`envfarm episode`: what happened in an episode, step by step, and the reasons for its reward."""

import asyncio
import difflib
import json
from pathlib import Path
from typing import NamedTuple

import click

from envfarm.cli import console
from envfarm.cli.runs import rows_of
from envfarm.core import why
from envfarm.core.action import Action, Bash, Finish, Malformed, ReadFile, RunTests, StrReplace
from envfarm.core.errors import UsageError
from envfarm.core.ids import EpisodeId, RunId
from envfarm.core.outcome import Outcome
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import End, Step, Trajectory
from envfarm.episodes import atif
from envfarm.settings import read
from envfarm.stores.catalogue_lookup import TaskFilter
from envfarm.stores.episodes import EpisodeRow
from envfarm.wiring import Farm

SHOWN_CHARS = 2000


class Seen(NamedTuple):
    """All that is stored of an episode."""

    row: EpisodeRow
    outcome: Outcome | None
    trajectory: Trajectory | None
    """None if it never had a box."""


@click.group()
def episode() -> None:
    """List, show and export episodes."""


@episode.command(name="list", short_help="List a run's episodes and their outcomes.")
@click.option("--run", "name", default="", help="The run's name.  [default: the newest run]")
def list_episodes(name: str) -> None:
    """List a run's episodes with their outcomes and the reasons."""
    shown = asyncio.run(_listed(name))
    if shown is None:
        console.say("no runs yet; start one with `envfarm run --all`")
        return
    run_id, lines = shown
    console.table("", ("episode", "task", "policy", "state", "outcome", "why"), lines)
    if not name:
        console.say(f"these are the episodes of {run_id}, the newest run; `envfarm runs` lists the others")


async def _listed(name: str) -> tuple[RunId, list[tuple[str, ...]]] | None:
    async with Farm(read()) as farm:
        runs = [summary.run_id for summary in await farm.episodes.runs()]
        if not runs and not name:
            return None
        run_id, rows = await rows_of(farm, RunId(name) if name else runs[0], runs)
        outcomes = await farm.episodes.outcomes([row.spec.episode_id for row in rows])
        names = {row.digest: row.name for row in await farm.catalogue.rows(TaskFilter())}
        return run_id, [_line(row, outcomes.get(row.spec.episode_id), names.get(row.spec.task, row.spec.task[:19])) for row in rows]


def _line(row: EpisodeRow, outcome: Outcome | None, task: str) -> tuple[str, ...]:
    reason = why.reason(outcome) or why.first_line(row.detail)
    return row.spec.episode_id, task, row.spec.policy.name, row.state, why.verdict(outcome), reason


@episode.command()
@click.argument("episode_id")
@click.option("--full", is_flag=True, help="Show complete observations.")
def show(episode_id: str, full: bool) -> None:  # noqa: FBT001 - click hands flags over by name
    """Show every step of an episode, and the reasons for its reward."""
    row, outcome, trajectory = asyncio.run(_seen(episode_id))
    spec = row.spec
    facts = [("episode", spec.episode_id), ("run", spec.run_id), ("task", spec.task), ("policy", _policy(row)), ("state", row.state)]
    if trajectory:
        facts.append(("box", trajectory.header.box))
        if because := trajectory.header.started_because:
            facts.append(("restarted", because))
    if row.attempts:
        facts.append(("failed attempts", f"{row.attempts}; the last: {why.first_line(row.detail)}"))
    console.table("", ("", ""), facts)
    for step in trajectory.steps if trajectory else ():
        _print_step(step, None if full else SHOWN_CHARS)
    if trajectory and trajectory.sampled:
        _print_calls(trajectory.sampled, None if full else SHOWN_CHARS)
    if trajectory and trajectory.end:
        if action := trajectory.end.action:
            console.rule(f"{len(trajectory.steps) + 1}. {action.tool}  no answer", "─")
            console.show(_action_text(action), style="cyan")
        _print_end(trajectory.end)
    else:
        console.rule("no steps" if outcome else "not finished", "═")
    for line in why.in_full(outcome) if outcome else ():
        console.show(line)


def _policy(row: EpisodeRow) -> str:
    policy = row.spec.policy
    return " ".join([policy.name, *(f"{key}={value}" for key, value in policy.options.items())])


@episode.command(short_help="Write an episode's trajectory as ATIF.")
@click.argument("episode_id")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="Output file.  [default: standard output]")
def export(episode_id: str, to: Path | None) -> None:
    """Write an episode's trajectory as ATIF (Agent Trajectory Interchange Format)."""
    trajectory = asyncio.run(_seen(episode_id)).trajectory
    if trajectory is None:
        raise UsageError(f"{episode_id} has no trajectory to export", hint=f"`envfarm episode show {episode_id}` shows why")
    text = json.dumps(atif.export(trajectory), indent=1, ensure_ascii=False) + "\n"
    if to:
        to.write_text(text, encoding="utf-8", errors="backslashreplace")
    else:
        click.echo(text, nl=False)


async def _seen(episode_id: str) -> Seen:
    """Raises `UsageError` for an unknown episode."""
    async with Farm(read()) as farm:
        rows = await farm.episodes.episodes(RunId(episode_id.rsplit(".", 2)[0]))
        found = next((row for row in rows if row.spec.episode_id == episode_id), None)
        if found is None:
            near = difflib.get_close_matches(episode_id, [row.spec.episode_id for row in rows], 1)
            meant = f": did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"there is no episode {episode_id!r}{meant}", hint="`envfarm episode list` lists a run's episodes, `envfarm runs` the runs"
            )
        outcomes = await farm.episodes.outcomes([found.spec.episode_id], whole=True)
        return Seen(found, outcomes.get(found.spec.episode_id), await farm.trajectories.last(EpisodeId(episode_id)))


def _print_step(step: Step, limit: int | None) -> None:
    console.rule(f"{step.index + 1}. {step.action.tool}  {step.duration_s:.2f} s", "─")
    if step.call:
        console.show(_cut(step.call.reasoning, limit), style="dim italic")
        console.show(_cut(step.call.text, limit), style="italic")
    console.show(_action_text(step.action), style="cyan")
    console.show(_cut(step.observation.text, limit))
    if step.call and step.call.completion_tokens is not None:
        console.show(f"{step.call.completion_tokens} tokens sampled", style="dim")


def _print_calls(sampled: Sampled, limit: int | None) -> None:
    """What a program's calls to its model sampled."""
    for call in sampled.calls:
        behind = "" if call.parent is None else f" behind call {call.parent + 1}"
        drift = sum(span.end - span.start for span in call.drift)
        drifted = f", {drift} of them drifted" if drift else ""
        console.rule(f"call {call.index + 1}{behind}: {len(call.added_ids)} prompt tokens added{drifted}", "─")
        console.show(_cut(call.text, limit), style="italic")
        weights = f", weights {call.weight_version}" if call.weight_version else ""
        console.show(f"{len(call.completion_ids)} tokens sampled by {call.engine}{weights}; ended by {call.finish_reason}", style="dim")
    failed = f", {sampled.failed_calls} calls failed" if sampled.failed_calls else ""
    console.rule(f"{len(sampled.calls)} calls, {sampled.completion_tokens} tokens sampled{failed}", "─")
    for failure in sampled.failures:
        console.show(f"{failure.cause}: {failure.detail}")


def _cut(text: str, limit: int | None) -> str:
    if not limit or len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n… {len(text) - limit} more characters (--full shows them) …\n{text[-limit // 2 :]}"


def _action_text(action: Action) -> str:
    match action:
        case Bash():
            return f"$ {action.command}"
        case StrReplace():
            old = "".join(f"- {line}\n" for line in action.old.splitlines())
            new = "".join(f"+ {line}\n" for line in action.new.splitlines())
            return f"{action.path}\n{old}{new}".rstrip()
        case ReadFile():
            return f"{action.path} from line {action.start_line}, {action.line_count} lines"
        case RunTests():
            return " ".join(action.paths) or "all visible tests"
        case Finish():
            return action.message or "done"
        case Malformed():
            return f"{action.problem}: {action.raw}"


def _print_end(end: End) -> None:
    console.rule(f"{end.ended} after {end.seconds:.1f} s", "═")
    console.show(end.change or "the agent changed nothing" if end.ended != "failed" else end.change)
