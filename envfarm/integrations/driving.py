"""One episode that a trainer drives, from waiting for a box to the outcome. For the adapters beside it, over `envfarm.client` alone."""

import json
from types import TracebackType
from typing import Self

from pydantic import TypeAdapter, ValidationError

from envfarm.client import Client, EpisodeRequest, ServerProblem, StepRequest
from envfarm.core.action import Action, Bash, Finish, Malformed, ReadFile, RunTests, StrReplace
from envfarm.core.model_call import ModelCall
from envfarm.core.observation import Observation
from envfarm.core.rollout import EpisodeView

CONFLICT = 409
TOOLS = (Bash, StrReplace, ReadFile, RunTests, Finish)
_ACTION: TypeAdapter[Action] = TypeAdapter(Action)


class DrivenEpisode:
    """An episode under way. Use it as a context: one that is left before its end is called off, and its box is free.

    Every method blocks, and raises `ServerProblem`. Not for several threads at once; different episodes are.
    """

    def __init__(self, farm: Client, request: EpisodeRequest) -> None:
        """Ask for it. No box is waited for: see `begin`."""
        self._farm = farm
        self._steps = 0
        self.view: EpisodeView = farm.create_episode(request, wait_s=0.0)

    def __enter__(self) -> Self:
        """It was asked for already."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Call it off where it is not over."""
        if not self.over:
            self.view = self._farm.close_episode(self.view.id)

    @property
    def over(self) -> bool:
        """Whether nothing more can be done in it."""
        return self.view.state == "ended"

    def begin(self) -> None:
        """Wait for a box, however long the farm has none."""
        self.view = self._settled(self.view)

    def act(self, action: Action, call: ModelCall | None = None) -> Observation | None:
        """Carry an action out, with the model call behind it. None where the episode was over before the action came."""
        step = StepRequest(step_id=str(self._steps), action=action, call=call)
        try:
            seen = self._farm.step(self.view.id, step)
        except ServerProblem as e:
            self.view = self._settled(self._farm.episode(self.view.id))
            if e.status == CONFLICT and self.over:  # it ran out of seconds, or was called off, while the policy thought
                return None
            raise
        self._steps += 1
        self.view = self._settled(seen.episode)
        return seen.observation

    def grade(self) -> None:
        """End it as it stands."""
        self.view = self._farm.grade(self.view.id)

    def _settled(self, view: EpisodeView) -> EpisodeView:
        """The episode once it wants an action or is over: it waits for a box, or is being graded."""
        while view.state not in {"ready", "ended"}:
            view = self._farm.episode(view.id, wait_s=30.0)
        return view


def how_to_act() -> str:
    """What tells a model in words how `read_action` reads it."""
    schemas = "\n".join(json.dumps(tool.model_json_schema()) for tool in TOOLS)
    return f"Answer each time with one JSON object and nothing else: an action, by one of these schemas.\n{schemas}"


def read_action(text: str) -> Action:
    """An action that a model wrote as a JSON object with its `tool`, also within a fence; `Malformed` where it is none."""
    words = text.strip()
    if words.startswith("```") and words.endswith("```"):
        words = words.strip("`").partition("\n")[2]
    try:
        return _ACTION.validate_python(json.loads(words))
    except (ValueError, ValidationError) as e:
        return Malformed(raw=text, problem=f"no action in JSON: {e}"[:500])
