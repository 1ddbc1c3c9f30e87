"""`envfarm runs`: the runs, their progress and their results."""

import asyncio
import difflib
from collections.abc import Sequence

import click

from envfarm.cli import console
from envfarm.core.errors import UsageError
from envfarm.core.ids import RunId
from envfarm.settings import read
from envfarm.stores.episodes import EpisodeRow, RunSummary
from envfarm.wiring import Farm

STATES = {"done": "done", "poisoned": "invalid", "cancelled": "cancelled", "running": "running", "pending": "pending"}
"""Episode states: the store's names, and those shown to users."""


@click.command()
def runs() -> None:
    """List runs, newest first. The mean reward is over scored episodes; invalid ones have no reward and do not count."""
    found = asyncio.run(_runs())
    if not found:
        console.say("there are no runs yet; `envfarm run --all` runs the catalogue's valid tasks")
        return
    console.table("", ("run", "started", "mean", "episodes"), [_line(summary) for summary in found])


async def _runs() -> tuple[RunSummary, ...]:
    async with Farm(read()) as farm:
        return await farm.episodes.runs()


def _line(summary: RunSummary) -> tuple[object, ...]:
    mean = "" if summary.mean_reward is None else f"{summary.mean_reward:.3f}"
    counts = ", ".join(f"{count} {name}" for state, name in STATES.items() if (count := summary.states.get(state, 0)))
    return summary.run_id, summary.created_at[:16].replace("T", " "), mean, counts


async def rows_of(farm: Farm, run: RunId, known: Sequence[RunId]) -> tuple[RunId, tuple[EpisodeRow, ...]]:
    """A run's episodes. Raises `UsageError` for an unknown run, with the most similar name."""
    rows = await farm.episodes.episodes(run)
    if not rows and run not in known:
        near = difflib.get_close_matches(run, known, 1)
        raise UsageError(f"there is no run {run!r}" + (f": did you mean {near[0]}?" if near else ""), hint="`envfarm runs` lists all runs")
    return run, rows
