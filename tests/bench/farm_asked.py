"""What the measured farm is asked for: a tenant, tasks, and rollouts of so many episodes. Used by `farm` and `farm_cluster`.

Asked of the stores and not of the API, so that each episode has a seed of its own, by which its outcome is judged.
"""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Engine

from envfarm.controller.system_clock import SystemClock
from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.ids import RunId, TenantId, episode_id
from envfarm.core.image import Environment
from envfarm.core.rollout import Quota, RolloutRequest, TaskSelector
from envfarm.core.task import Task
from envfarm.core.validation import ValidationReport
from envfarm.stores.access import SqlAccess
from envfarm.stores.catalogue import Origin, TaskCatalogue
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.rollouts import NewRollout, SqlRollouts
from envfarm.testing.factories import make_environment, passed_gates
from tests.bench import farm_work

TENANT = TenantId("bench")


Where = Literal["ray", "processes"]


@dataclass(frozen=True)
class Ask:
    """What is measured."""

    pods: int
    hosts: int
    actions: int
    median_s: float
    most_s: float
    on: Where = "processes"
    profile: str = ""


async def prepare(engine: Engine, catalogue: TaskCatalogue, ask: Ask, pods: Environment | None = None) -> list[Task]:
    """Schema, tenant and tasks; with `pods`, what the tasks' boxes are made of in a cluster."""
    clock = SystemClock()
    await SqlEpisodes(engine, clock).open()
    await SqlAccess(engine, clock).add_tenant(TENANT, Quota(live_episodes=ask.pods, unfinished_episodes=ask.pods))
    tasks = farm_work.tasks(ask.pods)
    for task in tasks:
        made = make_environment()
        report = ValidationReport(task=task.digest, environment=made, provider="local", created_at=clock.now(), gates=passed_gates())
        await catalogue.add_validated(task, report, origin=Origin(repository="farm/farm"))
        if pods is not None:
            await catalogue.add_environment(task.digest, "kubernetes", pods)
    return tasks


async def rollout(engine: Engine, tasks: list[Task], ask: Ask, name: str, sandbox: str = "local") -> RunId:
    """One rollout of all episodes."""
    run = RunId(name)
    request = RolloutRequest(tasks=TaskSelector(names=tuple(t.name for t in tasks)), policy=PolicySpec(name="scripted"))
    specs = tuple(_spec(run, tasks[n // farm_work.GROUP], n, ask, sandbox) for n in range(ask.pods))
    new = NewRollout(id=run, tenant=TENANT, kind="rollout", key=None, asked="", request=request, specs=specs)
    await SqlRollouts(engine, SystemClock()).add(new, most_unfinished=ask.pods)
    return run


def _spec(run: RunId, task: Task, number: int, ask: Ask, sandbox: str) -> EpisodeSpec:
    member = number % farm_work.GROUP
    actions = [action.model_dump(exclude_defaults=True) | {"tool": action.tool} for action in farm_work.actions(number, ask.actions)]
    return EpisodeSpec(
        episode_id=episode_id(run, task.digest, member),
        run_id=run,
        task=task.digest,
        member=member,
        policy=PolicySpec(name="scripted", options={"actions": actions}),
        seed=number,
        sandbox=sandbox,
    )
