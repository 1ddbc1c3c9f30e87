"""Seats: a trainer as an episode's policy. The runner asks, the trainer's next step is the answer.

Made by whoever casts an episode of the policy `trainer`, looked at by `step_episodes`. Budgets, tools, the journal, grading and going on
after a crash are the runner's, as for every policy. A trainer that does not call any more has left: its episode ends (`Unattended`).
"""

import asyncio
from collections.abc import Sequence

from envfarm.controller.bells import Bells
from envfarm.core.action import Action, Decision
from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import Conflict, Unattended
from envfarm.core.ids import EpisodeId
from envfarm.core.model_call import ModelCall
from envfarm.core.rollout import BranchView
from envfarm.core.trajectory import Step

POLICY = "trainer"
"""The name of the policy."""


class Seat:
    """Where one episode's trainer sits, for one attempt."""

    def __init__(self, spec: EpisodeSpec, bells: Bells) -> None:
        self._episode = spec.episode_id
        self._idle_s = spec.budgets.idle_s
        self._called_at_s = 0.0
        self._bells = bells
        self._answer: asyncio.Future[Decision] | None = None
        self.instruction = ""
        self.history: tuple[Step, ...] = ()
        self.kept_bytes = 0
        """Of the trainer's actions and calls in the record."""
        self.deciding = ""
        """The step that is being carried out."""
        self.branch: BranchView | None = None
        """Of a fork, for whoever looks at it: read from the record once, since that is long."""

    @property
    def remembers(self) -> bool:
        """Always: a trainer goes by what it was answered."""
        return True

    @property
    def asked(self) -> bool:
        """Whether the episode waits for a step."""
        return self._answer is not None and not self._answer.done()

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
        """Wait for the trainer. Raises `Unattended` where it has not called for as long as the budgets allow."""
        self.kept_bytes += sum(map(_sent_bytes, history[len(self.history) :]))
        self.instruction, self.history, self.deciding = instruction, tuple(history), ""
        self.called()
        answer: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        self._answer = answer
        self._bells.ring(self._episode)
        try:
            while (left_s := self._called_at_s + self._idle_s - asyncio.get_running_loop().time()) > 0:
                await asyncio.wait({answer}, timeout=left_s)
                if answer.done():
                    return answer.result()
            raise Unattended(f"no call came for {self._episode} in {self._idle_s:g} s")
        finally:
            self._answer = None

    def called(self) -> None:
        """The trainer is there."""
        self._called_at_s = asyncio.get_running_loop().time()

    def decide(self, step_id: str, action: Action, call: ModelCall | None) -> None:
        """The trainer's next step. Raises `Conflict` where none is waited for."""
        if self._answer is None or self._answer.done():
            raise Conflict("another step is being carried out", hint="one step at a time: wait for its observation")
        self.deciding = step_id
        self._answer.set_result(Decision(action, (call or ModelCall()).model_copy(update={"call_id": step_id})))


class Seats:
    """The seats of this process's episodes."""

    def __init__(self, bells: Bells) -> None:
        self._bells = bells
        self._seats: dict[EpisodeId, Seat] = {}

    def take(self, spec: EpisodeSpec) -> Seat:
        """A new one, for a new attempt."""
        seat = self._seats[spec.episode_id] = Seat(spec, self._bells)
        return seat

    def of(self, episode: EpisodeId) -> Seat | None:
        """The present attempt's; None where the episode is not being played here."""
        return self._seats.get(episode)

    def called(self, episode: EpisodeId) -> None:
        """The trainer of this episode is there."""
        if (seat := self.of(episode)) is not None:
            seat.called()

    def leave(self, episode: EpisodeId) -> None:
        """The attempt is over."""
        self._seats.pop(episode, None)


def _sent_bytes(step: Step) -> int:
    return len(step.action.model_dump_json()) + (len(step.call.model_dump_json()) if step.call else 0)
