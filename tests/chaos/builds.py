"""`envfarm build` in the storm: killed at each named point and at random moments, until it says what an undisturbed build says."""

import shutil
from pathlib import Path

from task_builders import commands
from tests.chaos import evidence, made_project
from tests.chaos.ground import Ground

POINTS = (
    ("layer build", 1),
    ("layer build", 2),
    ("layer build", 2),
    ("box create", 1),
    ("box create", 2),
    ("box create", 9),
    ("journal write", 1),
    ("journal write", 1),
)
"""Where farms die, and at which reach."""


def storm(ground: Ground, *, kills: int) -> int:
    """So many kills at random besides those at named points, on journals that are begun anew when a build is done; the records built."""
    ground.prepare()
    sources = made_project.make(ground.directory)
    words = ["build", str(sources), "--repeats", "1", "--no-attacks", "--parallel", "2"]
    expected = _undisturbed(ground, words, sources)
    ground.invite()
    for point, times in POINTS:
        ground.kill_at(point, times, ["build", str(sources)])
    left = kills
    while left and not ground.complaints:
        if ground.kill_at_random(words):
            left -= 1
        else:
            _judge(ground, sources, expected)
            _forget(ground, sources)
    ground.to_the_end(words)
    _judge(ground, sources, expected)
    ground.judge_left_overs()
    return len(expected)


def _undisturbed(ground: Ground, words: list[str], sources: Path) -> dict[str, str]:
    """What a build in a home of its own says of each record, killed by nobody."""
    alone = ground.alone()
    alone.to_the_end(words)
    ground.complaints += alone.complaints
    verdicts = evidence.journal_verdicts(commands.journal_path(alone.settings, sources, "local"))
    if set(verdicts.values()) < {"valid", "states"}:
        ground.complaints.append(f"an undisturbed build says {verdicts}: the storm would show nothing")
    return verdicts


def _judge(ground: Ground, sources: Path, expected: dict[str, str]) -> None:
    journal = commands.journal_path(ground.settings, sources, "local")
    ground.complaints += evidence.build_journal(journal, expected)
    ground.complaints += evidence.catalogue(ground.settings.catalogue, journal)


def _forget(ground: Ground, sources: Path) -> None:
    """Have the next build begin anew, over the layers that there are."""
    commands.journal_path(ground.settings, sources, "local").unlink()
    shutil.rmtree(ground.settings.catalogue)
