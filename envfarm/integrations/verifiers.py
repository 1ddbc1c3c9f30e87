"""A farm's tasks as a verifiers environment (v1): verifiers' agent plays, and the farm answers as the user.

verifiers finds an environment by a top-level module's name. Users write that module, two lines: see docs/trainers.md. An episode without a
reward fails verifiers' rollout, since verifiers counts missing rewards as 0. It must access the farm through the client only.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import verifiers.v1 as vf

from envfarm.client import Budgets, Client, EpisodeRequest, TaskSelector
from envfarm.integrations.driving import DrivenEpisode, how_to_act, read_action
from envfarm.integrations.outcomes import NoRewardError, required_reward


class FarmTaskData(vf.TaskData):
    """A task's digest. The instruction is fetched when its episode begins."""

    digest: str


class FarmTask(vf.Task[FarmTaskData]):
    """Adds nothing, since the farm grades."""


class FarmTasksetConfig(vf.TasksetConfig):
    """The farm, and the selection of its tasks. It contains no secret, since verifiers stores it."""

    url: str = ""
    token_file: Path = Path("token")
    """`envfarm serve` stores the operator's token in `ENVFARM_HOME/service/token`."""
    names: list[str] = []
    """Empty: all valid tasks. verifiers' own `--select` selects further."""
    turns: int = 100
    sandbox: str = ""
    """The farm's own where empty."""


class FarmTaskset(vf.Taskset[FarmTask, FarmTasksetConfig]):
    """The farm's tasks, in the farm's order."""

    def load(self) -> Iterator[FarmTask]:
        """Fetch the tasks from the farm."""
        with client_of(self.config) as farm:
            for task in farm.tasks(TaskSelector(names=tuple(self.config.names))):
                yield FarmTask(FarmTaskData(id=task.digest, name=task.name, digest=task.digest), self.config.task)


class FarmEnvConfig(vf.EnvConfig):
    """The player: a harness that takes turns with a user, such as `null`."""

    player: vf.AgentConfig = vf.AgentConfig()


class FarmEnv(vf.Env[FarmEnvConfig]):
    """One episode of the farm per rollout. Its tokens are in verifiers' trace; the farm stores actions and observations."""

    async def run(self, task: FarmTask, agents: Any) -> None:
        """Run until the farm's episode or the agent's exchange is over, and record its reward as `farm`."""
        config: Any = self.config.taskset
        request = EpisodeRequest(task=task.data.digest, budgets=Budgets(turns=config.turns), sandbox=config.sandbox)
        async with AsyncExitStack() as left:
            farm = left.enter_context(client_of(config))
            episode = await asyncio.to_thread(DrivenEpisode, farm, request)
            left.push_async_callback(asyncio.to_thread, episode.close)
            await asyncio.to_thread(episode.begin)
            async with agents.player.interaction(task) as exchange:
                await _play(episode, exchange)
                if exchange.trace.errors:  # errors of verifiers, already reported
                    return
                try:  # inside the exchange, so that its trace fails if there is no reward
                    exchange.trace.record_reward("farm", required_reward(episode.view.outcome))
                except NoRewardError as e:
                    raise vf.SandboxError(str(e)) from e


async def _play(episode: DrivenEpisode, exchange: Any) -> None:
    words = f"{episode.view.instruction}\n\n{how_to_act()}"
    while not episode.over:
        said = await exchange.turn(words)
        if said.terminated:
            break
        seen = await asyncio.to_thread(episode.act, read_action(said.last_reply))
        words = seen.text if seen is not None else ""
    if not episode.over and not exchange.trace.errors:
        await asyncio.to_thread(episode.grade)


def client_of(config: FarmTasksetConfig) -> Client:
    """The client of the farm that a configuration names."""
    return Client(config.url, config.token_file.read_text().strip())
