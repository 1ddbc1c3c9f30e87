"""A farm's tasks as a verifiers environment (v1): verifiers' agent plays, the farm is the user that answers it.

verifiers finds an environment by the name of a top-level module, which is the reader's: two lines, see docs/trainers.md. An episode
without a reward fails verifiers' rollout, whose missing rewards count 0. Must not look at a farm but through its client.
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
    """A task by its digest; what it asks for is told when its episode begins."""

    digest: str


class FarmTask(vf.Task[FarmTaskData]):
    """Nothing more: the farm grades."""


class FarmTasksetConfig(vf.TasksetConfig):
    """Which farm, and which of its tasks. No secret is in it, since verifiers writes it down."""

    url: str = ""
    token_file: Path = Path("token")
    """`envfarm serve` keeps the operator's in `ENVFARM_HOME/service/token`."""
    names: list[str] = []
    """All valid tasks where empty; further choices are verifiers' own, `--select`."""
    turns: int = 100
    sandbox: str = "local"


class FarmTaskset(vf.Taskset[FarmTask, FarmTasksetConfig]):
    """The farm's tasks, in its own order."""

    def load(self) -> Iterator[FarmTask]:
        """Ask the farm."""
        with client_of(self.config) as farm:
            for task in farm.tasks(TaskSelector(names=tuple(self.config.names))):
                yield FarmTask(FarmTaskData(id=task.digest, name=task.name, digest=task.digest), self.config.task)


class FarmEnvConfig(vf.EnvConfig):
    """Who plays: a harness that takes turns with a user, as `null` does."""

    player: vf.AgentConfig = vf.AgentConfig()


class FarmEnv(vf.Env[FarmEnvConfig]):
    """An episode of the farm per rollout. Its tokens are in verifiers' trace; the farm keeps actions and observations."""

    async def run(self, task: FarmTask, agents: Any) -> None:
        """Play until the farm's episode is over or the agent's exchange is, and record what it is worth as the reward `farm`."""
        config: Any = self.config.taskset
        request = EpisodeRequest(task=task.data.digest, budgets=Budgets(turns=config.turns), sandbox=config.sandbox)
        async with AsyncExitStack() as left:
            farm = left.enter_context(client_of(config))
            episode = await asyncio.to_thread(DrivenEpisode, farm, request)
            left.push_async_callback(asyncio.to_thread, episode.close)
            await asyncio.to_thread(episode.begin)
            async with agents.player.interaction(task) as exchange:
                await _play(episode, exchange)
                if exchange.trace.errors:  # verifiers' own, and told already
                    return
                try:  # within the exchange: without a reward its trace is a failed one
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
