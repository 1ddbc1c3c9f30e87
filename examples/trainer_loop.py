"""Train a policy against `envfarm serve`:  python examples/trainer_loop.py [--seeds 3] [--shuffle-rewards] [--inject-invalid 0.2]

Builds small tasks from two generated histories (`small_histories.py`), serves them, and trains a policy over edits (`edit_policy.py`) on
the tasks of one history; the tasks of the other are held out. The policy learns what a task says and what an edit is worth only through
the client. Prints the success rate step by step. Exits 1 if the policy did not learn, or if it learned from shuffled rewards. Tasks and
gradings are kept in `ENVFARM_HOME`: only the first run builds and grades.
"""

import argparse
import hashlib
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edit_policy import Edit, Features, Policy, edits_of, features_of
from small_histories import HELD_OUT, TRAINING, write_both

from envfarm.client import Bash, Client, EpisodeRequest, Invalid, Outcome, RewardRequest, StepRequest
from envfarm.settings import read
from task_builders import journal
from task_builders.commands import journal_path

ENVFARM = Path(sys.executable).with_name("envfarm")
LEAST_EDITS = 8
LINES = 20
"""Lines of the plot."""
LAST = 10
"""Number of final steps over which success is measured."""
AT_ONCE = 8
"""Concurrent calls of the farm."""
LEARNED = 0.9
CHANCE = 1 / LEAST_EDITS
INJECTED = Invalid("sandbox", retryable=True, detail="the box was lost (injected by the trainer)")


@dataclass(frozen=True)
class Seen:
    """What the policy sees of a task."""

    name: str
    """For calls of the farm; the policy never sees it."""
    edits: Sequence[Edit]
    features: Sequence[Features]


@dataclass
class Grader:
    """The outcomes of edits. Every distinct edit is graded once, under its own idempotency key."""

    farm: Client
    known: dict[str, Outcome] = field(default_factory=dict)

    def outcomes(self, tried: Sequence[tuple[Seen, int]]) -> list[Outcome]:
        """The outcomes of edits, given by number, in the same order."""
        asked = [RewardRequest(task=task.name, patch=task.edits[edit].patch) for task, edit in tried]
        keys = [hashlib.sha256(request.model_dump_json().encode()).hexdigest() for request in asked]
        new = {key: request for key, request in zip(keys, asked, strict=True) if key not in self.known}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            views = pool.map(lambda key: self.farm.reward(new[key], key=key), new)
            self.known.update({key: view.outcome for key, view in zip(new, views, strict=True) if view.outcome is not None})
        return [self.known[key] for key in keys]


@dataclass(frozen=True)
class Step:
    """The success in one step: the mean reward of the graded edits."""

    training: float
    held_out: float


def main() -> None:
    """Build, serve, and train once per seed; see the module's docstring."""
    options = arguments()
    sources = write_both(
        read().home / "loop" / f"{options.training}-{options.held_out}", training=options.training, held_out=options.held_out
    )
    call("build", str(sources), "--repeats", "1", "--no-attacks")
    print(f"training on tasks of {TRAINING}; those of {HELD_OUT} are held out", flush=True)
    with served() as (url, token), Client(url, token) as farm:
        tasks = {history: shown(farm, names_of(sources, history)) for history in (TRAINING, HELD_OUT)}
        grader = Grader(farm)
        complaints = [complaint for seed in range(options.seeds) for complaint in played(grader, tasks, options, seed)]
    print(f"{len(grader.known)} distinct edits were graded, each once")
    for complaint in complaints:
        print(f"error: {complaint}", file=sys.stderr)
    sys.exit(bool(complaints))


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Train a small policy against a farm of this machine.")
    parser.add_argument("--seeds", type=int, default=1, help="number of independent trainings (default 1)")
    parser.add_argument("--steps", type=int, default=60, help="training steps (default 60)")
    parser.add_argument("--group", type=int, default=8, help="edits tried per task and step (default 8)")
    parser.add_argument("--rate", type=float, default=1.0, help="learning rate (default 1); with a much higher one the policy drifts")
    parser.add_argument("--training", type=int, default=8, choices=range(1, 9), help="number of training tasks (default 8)")
    parser.add_argument(
        "--held-out", type=int, default=4, choices=range(1, 9), help="number of held-out tasks, which are only measured (default 4)"
    )
    parser.add_argument("--shuffle-rewards", action="store_true", help="permute the rewards: the policy must not learn")
    parser.add_argument("--inject-invalid", type=float, default=0.0, metavar="SHARE", help="share of outcomes that are replaced by Invalid")
    return parser.parse_args()


def call(*args: str) -> None:
    """Run `envfarm` with these arguments."""
    if status := subprocess.run([ENVFARM, *args], check=False).returncode:
        sys.exit(status)


@contextmanager
def served() -> Iterator[tuple[str, str]]:
    """The address and token of a service, which runs inside the context."""
    with subprocess.Popen([ENVFARM, "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - because of PIPE
            url, token = (process.stdout.readline().partition(" ")[2].strip() for _ in range(2))
            if not token:
                sys.exit("error: the service did not start; `envfarm serve` says why")
            yield url, token
        finally:
            process.terminate()


def names_of(sources: Path, history: str) -> list[str]:
    """The tasks made from a history. They skipped the attack library, so only selectors that name them select them."""
    made = [entry for entry in journal.read(journal_path(read(), sources, "local")) if isinstance(entry, journal.ItemValid)]
    return sorted(entry.task_name for entry in made if entry.project.endswith(f"/{history}"))


def shown(farm: Client, names: Sequence[str]) -> list[Seen]:
    """What the policy sees of each task."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda name: seen(farm, name), names))


def seen(farm: Client, task: str) -> Seen:
    """Read the file that the task's instruction names, in an episode of the task."""
    episode = farm.create_episode(EpisodeRequest(task=task))
    paths = re.findall(r"`([\w/]+\.py)`", episode.instruction)
    if not paths:
        sys.exit(f"error: {task} names no file:\n{episode.instruction}")
    shown = farm.step(episode.id, StepRequest(step_id="read", action=Bash(command=f"cat {paths[0]}"))).observation
    farm.close_episode(episode.id)
    edits = edits_of(paths[0], shown.text if shown is not None else "")
    if len(edits) < LEAST_EDITS:
        sys.exit(f"error: {task} has {len(edits)} places to edit; {LEAST_EDITS} are needed")
    return Seen(task, edits, [features_of(episode.instruction, edit) for edit in edits])


def played(grader: Grader, tasks: Mapping[str, Sequence[Seen]], options: argparse.Namespace, seed: int) -> list[str]:
    """Train a new policy and print its progress. Returns complaints about the final result."""
    steps = []
    each = max(1, options.steps // LINES)
    for step in trained(grader, tasks, options, random.Random(seed)):  # noqa: S311 - must be reproducible, not secret
        steps.append(step)
        if len(steps) % each == 0:
            training, held_out = means(steps[-each:])
            print(f"step {len(steps):4}  training {bar(training)} {training:.2f}  held-out {bar(held_out)} {held_out:.2f}", flush=True)
    (first, held_first), (last, held_last) = means(steps[:1]), means(steps[-LAST:])
    print(f"seed {seed}: training {first:.3f} → {last:.3f}, held-out {held_first:.3f} → {held_last:.3f}, chance {CHANCE}", flush=True)
    if options.shuffle_rewards:
        return [f"seed {seed} learned from shuffled rewards: {last:.2f} of training"] if last > 2 * CHANCE else []
    found = (last, LEARNED, "training"), (held_last, 2 * CHANCE, "held-out")
    return [
        f"seed {seed} reached {success:.2f} on {what} tasks; more than {least} is required"
        for success, least, what in found
        if success <= least
    ]


def trained(grader: Grader, tasks: Mapping[str, Sequence[Seen]], options: argparse.Namespace, draw: random.Random) -> Iterator[Step]:
    """Train. Yields the success of each step, measured before the options change outcomes."""
    policy = Policy()
    spoiler = random.Random(draw.random())  # noqa: S311 - see above; separate, so that the first edits drawn are the same
    for _ in range(options.steps):
        success = {}
        for history in (TRAINING, HELD_OUT):
            tried = [(task, edit) for task in tasks[history] for edit in drawn(policy, task, options.group, draw)]
            outcomes = grader.outcomes(tried)
            success[history] = mean([o.reward for o in outcomes if o.kind == "scored"])
            if history == TRAINING:
                learn(policy, tried, spoilt(outcomes, options, spoiler), options)
        yield Step(success[TRAINING], success[HELD_OUT])


def drawn(policy: Policy, task: Seen, count: int, draw: random.Random) -> list[int]:
    """Draw a group of edits by the policy's probabilities."""
    return draw.choices(range(len(task.edits)), policy.chances(task.features), k=count)


def spoilt(outcomes: Sequence[Outcome], options: argparse.Namespace, draw: random.Random) -> list[Outcome]:
    """The outcomes as changed by the options."""
    mixed = draw.sample(outcomes, len(outcomes)) if options.shuffle_rewards else outcomes
    return [INJECTED if draw.random() < options.inject_invalid else outcome for outcome in mixed]


def learn(policy: Policy, tried: Sequence[tuple[Seen, int]], outcomes: Sequence[Outcome], options: argparse.Namespace) -> None:
    """One policy step per task's group. A member without a reward is left out: it is not a zero."""
    for n in range(0, len(tried), options.group):
        group = zip(tried[n : n + options.group], outcomes[n : n + options.group], strict=True)
        scored = [(edit, outcome.reward) for (_, edit), outcome in group if outcome.kind == "scored"]
        policy.learn(tried[n][0].features, scored, rate=options.rate)


def means(steps: Sequence[Step]) -> tuple[float, float]:
    """Mean success on training and on held-out tasks."""
    return mean([step.training for step in steps]), mean([step.held_out for step in steps])


def mean(numbers: Sequence[float]) -> float:
    """The mean; 0 for an empty sequence."""
    return sum(numbers) / len(numbers) if numbers else 0.0


def bar(share: float) -> str:
    """A share as a bar of twenty characters."""
    return "█" * round(20 * share) + "·" * (20 - round(20 * share))


if __name__ == "__main__":
    main()
