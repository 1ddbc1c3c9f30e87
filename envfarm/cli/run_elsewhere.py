"""`envfarm run … --server URL`: the same groups, run by another farm. It uses the client only and creates no boxes here.

The run's name is its idempotency key: repeating the command continues the same rollouts and shows the same episodes.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from envfarm.cli import console, run_summary, server
from envfarm.cli.options import asked_budgets, check_named, parse_policy, say_unsure
from envfarm.cli.run_summary import Ended
from envfarm.client import Client, LeaseRequest, RolloutRequest, TaskSelector
from envfarm.core.errors import UsageError
from envfarm.core.ids import RunId
from envfarm.core.listing import EpisodeInfo, TaskInfo
from envfarm.core.why import first_line
from envfarm.settings import Settings

LOCAL_ONLY = {
    "model": "--model",
    "engine": "--engine",
    "sandbox": "--sandbox",
    "parallel": "--parallel",
    "retry_invalid": "--retry-invalid",
}
"""Options that concern boxes of this machine only."""
LEASED_AT_ONCE = 256


def run(settings: Settings, options: dict[str, Any], given: frozenset[str]) -> bool:
    """Run the rollouts there and print the outcomes. Returns whether every episode has a verdict. `given`: options that the user set."""
    if wrong := [name for option, name in LOCAL_ONLY.items() if option in given]:
        raise UsageError(f"{wrong[0]} is for boxes of this machine, and --server uses those of another farm", hint=f"omit {wrong[0]}")
    if varying := next((policy for policy in options["policy"] if "{task}" in policy), None):
        raise UsageError(
            f"--policy {varying}: {{task}} differs between tasks, but all tasks of a rollout have the same policy",
            hint="use one run per task",
        )
    check_named(options["task"], every=options["every"])
    with Client(server.address(options["server"]), server.token(settings)) as farm:
        tasks = list(farm.tasks(TaskSelector(names=tuple(options["task"]))))
        if not tasks:
            raise UsageError("that farm has no valid task", hint="upload tasks with `envfarm tasks push`")
        say_unsure([task.state for task in tasks])
        requests = _requests(tasks, options, farm.me().sandbox)
        name = options["name"] or _drawn(requests)
        rollouts = [farm.submit(request, key=f"{name}.{number}").id for number, request in enumerate(requests)]
        _follow(farm, rollouts, sum(request.group_size for request in requests) * len(tasks))
        episodes = [episode for rollout in rollouts for episode in farm.episodes(rollout)]
        _print(tasks, episodes)
        run_summary.say([Ended(e.policy, e.kind or "", e.reward) for e in episodes], rollouts)
        _acknowledge(farm, rollouts)
    return _judged(episodes)


def _requests(tasks: Sequence[TaskInfo], options: dict[str, Any], sandbox: str) -> list[RolloutRequest]:
    """One rollout per policy, since all groups of a rollout have one policy."""
    policies: Sequence[str] = options["policy"]
    members = options["group"] or len(policies)
    shares = [members // len(policies) + (number < members % len(policies)) for number in range(len(policies))]
    budgets = asked_budgets(options)
    selected = TaskSelector(names=tuple(task.digest for task in tasks))
    return [
        RolloutRequest(
            tasks=selected, group_size=share, policy=parse_policy(policy, ""), budgets=budgets, sandbox=sandbox, seed=options["seed"]
        )
        for policy, share in zip(policies, shares, strict=True)
        if share
    ]


def _drawn(requests: Sequence[RolloutRequest]) -> str:
    asked = "\n".join(request.model_dump_json() for request in requests)
    return f"run-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def _follow(farm: Client, rollouts: Sequence[RunId], total: int) -> None:
    """Show events until all rollouts are over. If this is stopped, they continue on the server."""
    ended: set[str] = set()
    with console.progress("episodes", total) as bar:
        for rollout in rollouts:
            for event in farm.events(rollout):
                episode = str(event.body.get("episode", ""))
                if event.kind == "ended" and episode not in ended:
                    ended.add(episode)
                    reward = event.body.get("reward")
                    bar.advance(f"{episode}: {event.body.get('kind') if reward is None else f'{reward:g}'}")
                elif event.kind == "retrying":
                    bar.remark(f"{episode}: retrying after: {first_line(str(event.body.get('why', '')))}")


def _print(tasks: Sequence[TaskInfo], episodes: Sequence[EpisodeInfo]) -> None:
    names = {task.digest: task.name for task in tasks}
    # The sort is stable: a task's episodes stay in the order of the policies.
    lines = [(e.id, names[e.task], e.policy, e.verdict, e.why) for e in sorted(episodes, key=lambda e: (names[e.task], e.task))]
    console.table("", ("episode", "task", "policy", "outcome", "why"), lines)


def _acknowledge(farm: Client, rollouts: Sequence[RunId]) -> None:
    """Acknowledge the groups that were shown, so that the farm may delete them later."""
    ask = LeaseRequest(limit=LEASED_AT_ONCE, rollouts=tuple(rollouts))
    while leased := farm.lease(ask):
        farm.acknowledge([group.lease for group in leased])


def _judged(episodes: Sequence[EpisodeInfo]) -> bool:
    invalid = sum(episode.kind == "invalid" for episode in episodes)
    run_summary.say_invalid(invalid, len(episodes), what_to_do="run everything again with another --run name")
    return not invalid
