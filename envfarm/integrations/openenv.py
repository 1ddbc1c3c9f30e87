"""A farm as an OpenEnv server for OpenEnv's clients, with one episode of the farm per session.

`app` is served by uvicorn in a process separate from the farm, since `openenv` brings its own web framework. An episode without a reward is
an error for the client, since OpenEnv's consumers count a missing reward as 0. It must access the farm through the client only.
"""

from typing import Any

from openenv.core.env_server import Action as OpenEnvAction
from openenv.core.env_server import ConcurrencyConfig, Environment, State, create_fastapi_app
from openenv.core.env_server import Observation as OpenEnvObservation

from envfarm.client import Budgets, Client, EpisodeRequest, TaskSelector
from envfarm.core.action import Action
from envfarm.core.errors import Conflict, NotFound
from envfarm.core.frozen import Frozen
from envfarm.integrations.driving import DrivenEpisode
from envfarm.integrations.outcomes import required_reward


class Offer(Frozen):
    """What is offered of a farm."""

    tasks: TaskSelector = TaskSelector()
    budgets: Budgets = Budgets()
    sandbox: str = ""
    """The farm's own where empty."""
    sessions: int = 64
    """Concurrent sessions; more are refused."""
    idle_s: float = 600.0
    """A session that is unused for so long is ended, and its box is freed."""


class FarmAction(OpenEnvAction):
    """An action, selected by its `tool`."""

    action: Action


class FarmObservation(OpenEnvObservation):
    """What an agent observes; the last one, with `done`, has the reward."""

    text: str = ""
    """The task's instruction first, then the result of each action."""
    exit_code: int | None = None
    timed_out: bool = False
    is_error: bool = False
    outcome: str = ""
    """`scored`, or `censored` if a budget ran out; empty before the end."""


class FarmEnvironment(Environment):
    """One session, with one episode at a time. OpenEnv calls it in a single thread per session."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, farm: Client, offer: Offer) -> None:
        super().__init__()
        self._farm = farm
        self._offer = offer
        self._episode: DrivenEpisode | None = None

    def reset(self, seed: int | None = None, *, task: str = "", **_: Any) -> FarmObservation:
        """Begin an episode on the task with this name or digest, or on an offered task chosen by the seed. Waits for a box.

        An `episode_id` is ignored, since the farm names episodes: see `state`.
        """
        self.close()
        request = EpisodeRequest(
            task=task or self._picked(seed or 0), budgets=self._offer.budgets, sandbox=self._offer.sandbox, seed=seed or 0
        )
        self._episode = DrivenEpisode(self._farm, request)
        self._episode.begin()
        return self._seen(self._episode, FarmObservation(text=self._episode.view.instruction))

    def step(self, action: FarmAction, **_: Any) -> FarmObservation:
        """Run an action. The episode's budgets limit its time; a `timeout_s` is ignored."""
        if self._episode is None or self._episode.over:
            raise Conflict("no episode is in progress", hint="call `reset` to begin one")
        seen = self._episode.act(action.action)
        told = {} if seen is None else seen.model_dump(include={"text", "exit_code", "timed_out", "is_error"})
        return self._seen(self._episode, FarmObservation(**told))

    @property
    def state(self) -> State:
        """The farm's id of the episode, and the number of actions that were run."""
        view = self._episode.view if self._episode is not None else None
        return State(episode_id=view.id, step_count=view.turns) if view is not None else State()

    def close(self) -> None:
        """Cancel the episode in progress."""
        if self._episode is not None:
            self._episode.close()

    def _seen(self, episode: DrivenEpisode, told: FarmObservation) -> FarmObservation:
        """Add the reward if the episode is over. Raises `NoRewardError`."""
        if (outcome := episode.view.outcome) is not None:
            told.done, told.reward, told.outcome = True, required_reward(outcome), outcome.kind
        return told

    def _picked(self, seed: int) -> str:
        offered = [task.digest for task in self._farm.tasks(self._offer.tasks)]
        if not offered:
            raise NotFound("the farm has none of the offered tasks", hint="pass a `task` to `reset`, or change the offer")
        return offered[seed % len(offered)]


def app(farm: Client, offer: Offer | None = None) -> Any:
    """An ASGI application. OpenEnv's clients use its `/ws`; the stateless `/reset` and `/step` cannot keep an episode."""
    offered = offer or Offer()
    sessions = ConcurrencyConfig(max_concurrent_envs=offered.sessions, session_timeout=offered.idle_s)
    return create_fastapi_app(lambda: FarmEnvironment(farm, offered), FarmAction, FarmObservation, concurrency_config=sessions)
