"""The last lines of `envfarm run`: each policy's mean reward, and how to see more."""

from collections.abc import Sequence
from typing import NamedTuple

from envfarm.cli import console
from envfarm.core.ids import RunId


class Ended(NamedTuple):
    """The facts of one episode that a summary needs."""

    policy: str
    kind: str
    """`scored`, `invalid`, `censored`; empty while it is not finished."""
    reward: float | None


def say(episodes: Sequence[Ended], runs: Sequence[RunId]) -> None:
    """Print the summary to standard error, so that standard output has only the table."""
    for line in lines(episodes):
        console.say(line)
    console.say(f"{', '.join(runs)}: `envfarm episode show EPISODE` shows every step")


def lines(episodes: Sequence[Ended]) -> list[str]:
    """One line per policy, in the order of their first episodes. The mean is over scored episodes only."""
    return [_line(policy, [e for e in episodes if e.policy == policy]) for policy in dict.fromkeys(e.policy for e in episodes)]


def _line(policy: str, episodes: Sequence[Ended]) -> str:
    rewards = [e.reward for e in episodes if e.kind == "scored" and e.reward is not None]
    mean = f"mean reward {sum(rewards) / len(rewards):.3f} over {len(rewards)} scored" if rewards else "no scored episode"
    others = {kind: sum(e.kind == kind for e in episodes) for kind in ("censored", "invalid", "")}
    return ", ".join([f"{policy}: {mean}", *(f"{count} {kind or 'not finished'}" for kind, count in others.items() if count)])
