"""`envfarm run` in the storm: killed at each named point and at random moments, until every episode has its outcome all the same."""

from tests.chaos import evidence
from tests.chaos.ground import Ground

POINTS = (
    ("layer build", 1),  # uv's layer
    ("layer build", 2),  # the dependencies' layer
    ("layer build", 2),  # the checkout
    ("layer build", 2),  # what the project's steps made of it
    ("box create", 1),  # before the first box
    ("box create", 2),  # it has a directory and no label
    ("box create", 3),  # it has a process that no label names
    ("box create", 8),
    ("journal write", 1),
    ("journal write", 5),
    ("outcome commit", 1),
    ("outcome commit", 3),
)
"""Where farms die, and at which reach. In this order, since each makes a layer that the next finds."""


def storm(ground: Ground, *, episodes: int, kills: int) -> list[str]:
    """So many kills at random besides those at named points; a run that is complete too early is followed by another. Names of the runs."""
    ground.prepare()
    task = ground.put_task()
    ground.invite()
    runs = ["storm-1"]

    def words(run: str) -> list[str]:
        policies = ["--policy", "gold", "--policy", "nop"]
        return ["run", task, *policies, "--group", str(episodes), "--run", run, "--parallel", "2", "--retry-invalid"]

    for point, times in POINTS:
        ground.kill_at(point, times, ["run", task, runs[-1], str(episodes)])
    left = kills
    while left:
        if ground.kill_at_random(words(runs[-1])):
            left -= 1
        elif ground.complaints:
            break
        else:
            runs.append(f"storm-{len(runs) + 1}")
    # An episode that was in hand at three deaths is invalid: the first of these asks for it again, and may find another.
    for run in runs:
        ground.to_the_end(words(run))
        ground.to_the_end(words(run))
    judge(ground, runs, episodes)
    return runs


def judge(ground: Ground, runs: list[str], episodes: int) -> None:
    """What the database and the records say, and what is left."""
    database, records = ground.settings.runs / "episodes.sqlite", ground.settings.runs / "trajectories"
    for run in runs:
        ground.complaints += evidence.outcomes(database, run, episodes)
        ground.complaints += evidence.trajectories(records, database, run)
        ground.complaints += [f"{episode}: {said}" for episode, said in evidence.attempts(database, run).items()]
    ground.judge_left_overs()
