"""`envfarm episode`: what happened in an episode, step by step, and why its reward is what it is."""

import asyncio
import json
from pathlib import Path

import click

from envfarm.cli import console
from envfarm.core.action import Action, Bash, Finish, Malformed, ReadFile, RunTests, StrReplace
from envfarm.core.ids import EpisodeId
from envfarm.core.outcome import Censored, Integrity, Invalid, Outcome, Scored
from envfarm.core.trajectory import End, Step, Trajectory
from envfarm.episodes import atif
from envfarm.settings import read
from envfarm.wiring import Farm

SHOWN_CHARS = 2000


@click.group()
def episode() -> None:
    """Look at episodes."""


@episode.command()
@click.argument("episode_id")
@click.option("--full", is_flag=True, help="Show observations whole.")
def show(episode_id: str, full: bool) -> None:  # noqa: FBT001 - click hands flags over by name
    """Show every step of an episode, and why its reward is what it is."""
    trajectory = asyncio.run(_read(episode_id))
    spec = trajectory.header.episode
    console.out.print(f"[bold]{spec.episode_id}[/bold]  policy {spec.policy.name}, box {trajectory.header.box}", highlight=False)
    for step in trajectory.steps:
        _print_step(step, None if full else SHOWN_CHARS)
    if trajectory.end:
        _print_end(trajectory.end)
    else:
        console.say("the episode has not ended")


@episode.command()
@click.argument("episode_id")
@click.option("--to", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output where absent.")
def export(episode_id: str, to: Path | None) -> None:
    """Write an episode's trajectory as ATIF (Agent Trajectory Interchange Format)."""
    text = json.dumps(atif.export(asyncio.run(_read(episode_id))), indent=1, ensure_ascii=False) + "\n"
    if to:
        to.write_text(text)
    else:
        click.echo(text, nl=False)


async def _read(episode_id: str) -> Trajectory:
    async with Farm(read()) as farm:
        return await farm.trajectories.read(EpisodeId(episode_id))


def _print_step(step: Step, limit: int | None) -> None:
    console.out.rule(f"{step.index + 1}. {step.action.tool}  {step.duration_s:.2f} s", align="left", characters="─")
    console.out.print(_action_text(step.action), markup=False, style="cyan")
    text = step.observation.text
    if limit and len(text) > limit:
        text = f"{text[: limit // 2]}\n… {len(text) - limit} characters more (--full shows them) …\n{text[-limit // 2 :]}"
    if text:
        console.out.print(text, markup=False)
    if step.call and step.call.completion_tokens is not None:
        console.out.print(f"{step.call.completion_tokens} tokens sampled", style="dim")


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
    console.out.rule(f"{end.ended} after {end.seconds:.1f} s", align="left", characters="═")
    if end.change:
        console.out.print(end.change, markup=False)
    for line in why(end.outcome):
        console.out.print(line, markup=False)


def why(outcome: Outcome) -> list[str]:
    """An outcome in lines for people: the verdict first, then what it rests on."""
    match outcome:
        case Scored():
            mended, kept = _share(outcome.report.fail_to_pass), _share(outcome.report.pass_to_pass)
            tests = f"{mended} of the failing tests now pass, {kept} of the passing ones still do"
            return [f"reward {outcome.reward:g}: {outcome.why}", tests, *_integrity(outcome.integrity)]
        case Invalid():
            again = "it will be tried again" if outcome.retryable else "trying again would not help"
            return [f"invalid, not a zero: {outcome.cause} failed ({again})", outcome.detail]
        case Censored():
            partial = why(outcome.partial) if outcome.partial else ["what was left was not graded"]
            return [f"censored: the budget of {outcome.budget} ran out", *partial]


def _share(verdicts: dict[str, bool]) -> str:
    return f"{sum(verdicts.values())}/{len(verdicts)}"


def _integrity(integrity: Integrity) -> list[str]:
    lines = [f"{'held' if f.ok else 'FAILED'}: {f.check}{f' ({f.detail})' if f.detail else ''}" for f in integrity.findings]
    if integrity.dropped:
        lines.append(f"not applied, because it decides what tests do: {', '.join(integrity.dropped)}")
    return lines
