"""A farm as an OpenEnv server: what OpenEnv's clients connect to, with one episode of the farm per session.

`app` is what uvicorn serves, beside a farm and not in it: `openenv` brings a web framework and more of its own. An episode without a reward
is an error to the client, since OpenEnv's consumers count a missing reward as 0. Must not look at a farm but through its client.
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
    """What of a farm is served."""

    tasks: TaskSelector = TaskSelector()
    budgets: Budgets = Budgets()
    sandbox: str = "local"
    sessions: int = 64
    """At once; more are refused."""
    idle_s: float = 600.0
    """A session that nobody used for so long is ended, and its box is free."""


class FarmAction(OpenEnvAction):
    """An action, by its `tool`."""

    action: Action


class FarmObservation(OpenEnvObservation):
    """What an agent sees; with `done` comes the reward."""

    text: str = ""
    """The task's instruction first, then what came of each action."""
    exit_code: int | None = None
    timed_out: bool = False
    is_error: bool = False
    outcome: str = ""
    """`scored`, or `censored` where a budget ran out; empty before the end."""


class FarmEnvironment(Environment):
    """One session: an episode at a time. OpenEnv calls it in one thread of the session's own."""

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, farm: Client, offer: Offer) -> None:
        super().__init__()
        self._farm = farm
        self._offer = offer
        self._episode: DrivenEpisode | None = None

    def reset(self, seed: int | None = None, *, task: str = "", **_: Any) -> FarmObservation:
        """Begin an episode on a task of that name or digest; without one, on the offered task that the seed picks. Waits for a box.

        An `episode_id` is not looked at: the farm gives episodes their names, see `state`.
        """
        self.close()
        request = EpisodeRequest(
            task=task or self._picked(seed or 0), budgets=self._offer.budgets, sandbox=self._offer.sandbox, seed=seed or 0
        )
        self._episode = DrivenEpisode(self._farm, request)
        self._episode.begin()
        return self._seen(self._episode, FarmObservation(text=self._episode.view.instruction))

    def step(self, action: FarmAction, **_: Any) -> FarmObservation:
        """Carry an action out. The episode's budgets say how long it may take; a `timeout_s` is not looked at."""
        if self._episode is None or self._episode.over:
            raise Conflict("no episode is under way", hint="reset begins one")
        seen = self._episode.act(action.action)
        told = {} if seen is None else seen.model_dump(include={"text", "exit_code", "timed_out", "is_error"})
        return self._seen(self._episode, FarmObservation(**told))

    @property
    def state(self) -> State:
        """The farm's name of the episode, and how many actions were carried out."""
        view = self._episode.view if self._episode is not None else None
        return State(episode_id=view.id, step_count=view.turns) if view is not None else State()

    def close(self) -> None:
        """Call off what is under way."""
        if self._episode is not None:
            self._episode.close()

    def _seen(self, episode: DrivenEpisode, told: FarmObservation) -> FarmObservation:
        """With the reward, where the episode is over. Raises `NoRewardError`."""
        if (outcome := episode.view.outcome) is not None:
            told.done, told.reward, told.outcome = True, required_reward(outcome), outcome.kind
        return told

    def _picked(self, seed: int) -> str:
        offered = [task.digest for task in self._farm.tasks(self._offer.tasks)]
        if not offered:
            raise NotFound("the farm has no task that is offered", hint="give `reset` a `task`, or offer others")
        return offered[seed % len(offered)]


def app(farm: Client, offer: Offer | None = None) -> Any:
    """An ASGI application. OpenEnv's clients speak to it over `/ws`; its stateless `/reset` and `/step` cannot hold an episode."""
    offered = offer or Offer()
    sessions = ConcurrencyConfig(max_concurrent_envs=offered.sessions, session_timeout=offered.idle_s)
    return create_fastapi_app(lambda: FarmEnvironment(farm, offered), FarmAction, FarmObservation, concurrency_config=sessions)
