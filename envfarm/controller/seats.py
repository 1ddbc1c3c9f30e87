"""Seats: a trainer as an episode's policy. The runner asks, the trainer's next step is the answer.

Made by whoever casts an episode of the policy `trainer`, looked at by `step_episodes`. Budgets, tools, the journal, grading and going on
after a crash are the runner's, as for every policy.
"""

import asyncio
from collections.abc import Sequence

from envfarm.controller.bells import Bells
from envfarm.core.action import Action
from envfarm.core.errors import Conflict
from envfarm.core.ids import EpisodeId
from envfarm.core.model_call import ModelCall
from envfarm.core.trajectory import Step
from envfarm.policies.scripted import Choice

POLICY = "trainer"
"""The name of the policy."""


class Seat:
    """Where one episode's trainer sits, for one attempt."""

    def __init__(self, episode: EpisodeId, bells: Bells) -> None:
        self._episode = episode
        self._bells = bells
        self._answer: asyncio.Future[Choice] | None = None
        self.instruction = ""
        self.history: tuple[Step, ...] = ()
        self.deciding = ""
        """The step that is being carried out."""

    @property
    def asked(self) -> bool:
        """Whether the episode waits for a step."""
        return self._answer is not None and not self._answer.done()

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Choice:
        """Wait for the trainer."""
        self.instruction, self.history, self.deciding = instruction, tuple(history), ""
        self._answer = asyncio.get_running_loop().create_future()
        self._bells.ring(self._episode)
        try:
            return await self._answer
        finally:
            self._answer = None

    def decide(self, step_id: str, action: Action, call: ModelCall | None) -> None:
        """The trainer's next step. Raises `Conflict` where none is waited for."""
        if self._answer is None or self._answer.done():
            raise Conflict("another step is being carried out", hint="one step at a time: wait for its observation")
        self.deciding = step_id
        self._answer.set_result(Choice(action, (call or ModelCall()).model_copy(update={"call_id": step_id})))


class Seats:
    """The seats of this process's episodes."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells
        self._seats: dict[EpisodeId, Seat] = {}

    def take(self, episode: EpisodeId) -> Seat:
        """A new one, for a new attempt."""
        self._seats[episode] = Seat(episode, self._bells)
        return self._seats[episode]

    def of(self, episode: EpisodeId) -> Seat | None:
        """The present attempt's; None where the episode is not being played here."""
        return self._seats.get(episode)

    def leave(self, episode: EpisodeId) -> None:
        """The attempt is over."""
        self._seats.pop(episode, None)
