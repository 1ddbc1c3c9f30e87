"""An episode driven by a trainer, from waiting for a box to the outcome. Shared by the adapters; uses `envfarm.client` only."""

import json
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from envfarm.client import Client, EpisodeRequest, ServerProblem, StepRequest
from envfarm.core.action import Action, Bash, Finish, Malformed, ReadFile, RunTests, StrReplace
from envfarm.core.errors import Conflict
from envfarm.core.model_call import ModelCall
from envfarm.core.observation import Observation
from envfarm.core.rollout import EpisodeView

CONFLICT = 409
TOOLS = (Bash, StrReplace, ReadFile, RunTests, Finish)
_ACTION: TypeAdapter[Action] = TypeAdapter(Action)


class DrivenEpisode:
    """An episode in progress. Use it as a context manager: leaving it early cancels the episode and frees its box.

    Every method blocks and raises `ServerProblem`. One episode must not be used by several threads at once; different ones may.
    """

    def __init__(self, farm: Client, request: EpisodeRequest) -> None:
        """Request the episode. This does not wait for a box: see `begin`."""
        self._farm = farm
        self._steps = 0
        self.view: EpisodeView = farm.create_episode(request, wait_s=0.0)

    def __enter__(self) -> Self:
        """Returns itself; the episode is already requested."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Cancel the episode if it is not over."""
        if not self.over:
            self.view = self._farm.close_episode(self.view.id)

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.view.state == "ended"

    def begin(self) -> None:
        """Wait until there is a box, without a time limit."""
        self.view = self._settled(self.view)

    def act(self, action: Action, call: ModelCall | None = None) -> Observation | None:
        """Run an action, recording the model call behind it. None if the episode was over before the action arrived.

        Raises `Conflict` if others than this caller's steps are behind it.
        """
        step = StepRequest(step_id=str(self._steps), action=action, call=call)
        try:
            seen = self._farm.step(self.view.id, step)
        except ServerProblem as e:
            self.view = self._settled(self._farm.episode(self.view.id))
            if e.status == CONFLICT and self.over:  # it ran out of time or was cancelled while the policy chose
                return None
            raise
        self._steps += 1
        self.view = self._settled(seen.episode)
        if self.view.turns != self._steps:
            raise Conflict(f"the episode has {self.view.turns} steps where its trainer took {self._steps}", hint="begin another episode")
        return seen.observation

    def grade(self) -> None:
        """End the episode and have it graded as it is."""
        self.view = self._farm.grade(self.view.id)

    def _settled(self, view: EpisodeView) -> EpisodeView:
        """Wait until the episode needs an action or is over: until then it waits for a box or is being graded."""
        while view.state not in {"ready", "ended"}:
            view = self._farm.episode(view.id, wait_s=30.0)
        return view


def how_to_act() -> str:
    """Instructions for a model to answer in the form that `read_action` reads."""
    schemas = "\n".join(json.dumps(tool.model_json_schema()) for tool in TOOLS)
    return f"Answer each time with one JSON object and nothing else: an action, by one of these schemas.\n{schemas}"


def read_action(text: str) -> Action:
    """Parse an action from a JSON object with its `tool`, possibly in a code fence; `Malformed` if it is invalid."""
    words = text.strip()
    if words.startswith("```") and words.endswith("```"):
        words = words.strip("`").partition("\n")[2]
    try:
        return _ACTION.validate_python(json.loads(words))
    except (ValueError, ValidationError) as e:
        return Malformed(raw=text, problem=f"not an action in JSON: {e}"[:500])
