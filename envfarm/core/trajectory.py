"""What happened in an episode, step by step, with the tokens that the policy sampled."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import ConfigDict, field_validator

from envfarm.core import digest
from envfarm.core.action import Action
from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import PolicyError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.model_call import Conversation, ModelCall
from envfarm.core.observation import Observation
from envfarm.core.outcome import Censored, Invalid, Outcome, Scored, public
from envfarm.core.sampled import Sampled, SampledCall, TrainingRow, training_row

TRAJECTORY_VERSION: Literal["envfarm-trajectory-1"] = "envfarm-trajectory-1"


class Step(Frozen):
    """One action and what came of it."""

    kind: Literal["step"] = "step"
    index: int
    action: Action
    observation: Observation
    started_at: datetime
    duration_s: float
    """The action alone, without the policy's thinking."""
    think_s: float = 0.0
    cores: float | None = None
    call: ModelCall | None = None
    observation_digest: str
    """Of the observation as the box gave it: a replay that gives another one is not a replay."""


class Header(Frozen):
    """The first line of a trajectory's file."""

    kind: Literal["header"] = "header"
    schema_version: Literal["envfarm-trajectory-1"] = TRAJECTORY_VERSION
    episode: EpisodeSpec
    environment_digest: str
    """Of the agent's box, with whatever scaffold it had."""
    instruction: str
    box: str
    """What the box was: provider and identity."""
    attempt: int = 0
    """0 for the first box; every further box of the episode starts a new file section with a new header."""
    epoch: int = 0
    """Of the lease under which it was begun: a section of a lower one, wherever it stands, is of a host that had lost the episode."""
    started_because: str = ""
    """Why there is a further attempt, and whether it goes on from the recorded steps or starts again. Empty for the first."""
    resumed: int = 0
    """How many recorded steps it goes on from, and begins with: a section that ends before them all does not count."""
    agreed: bool | None = None
    """Of a fork: whether its box answered the steps that it goes on from as its parent's did. Where not, it began at the first step."""


class End(Frozen):
    """The last line of a trajectory's file."""

    kind: Literal["end"] = "end"
    ended: Literal["finished", "truncated", "failed", "cancelled"]
    outcome: Scored | Invalid | Censored
    """As a policy may see it: trainers feed trajectories to policies."""
    action: Action | None = None
    """The action of which nothing came: its box broke, or was lost, or the episode was called off while it ran."""
    change: str = ""
    """The agent's change as a unified diff, for people."""
    seconds: float

    @field_validator("outcome")
    @classmethod
    def _public(cls, outcome: Outcome) -> Outcome:
        return public(outcome)


class Trajectory(Frozen):
    """A whole one, read back."""

    header: Header
    steps: tuple[Step, ...] = ()
    sampled: Sampled | None = None
    """What a scaffold's model calls sampled: of episodes whose agent is a program in the box, there when it has ended."""
    end: End | None = None

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """The steps' calls to the model in order, each with its whole prompt: none `continues`."""
        conversation = Conversation()
        return tuple(conversation.whole(step.call) for step in self.steps if step.call is not None)

    def rows(self) -> tuple[TrainingRow, ...]:
        """What a learner trains on: a row for each conversation in which something was sampled, of steps and of programs alike.

        A step whose prompt does not begin with all tokens of the calls before it begins another row. A call without its ids is in none.
        Raises `PolicyError` for sampled ids without logprobs, and for a prompt whose first part is missing.
        """
        rows = self.sampled.branches if self.sampled is not None else map(training_row, self._conversations())
        return tuple(row for row in rows if any(row.mask))

    def _conversations(self) -> list[list[SampledCall]]:
        """The steps' calls that have ids, those that go on from each other together."""
        before, found = Conversation(), list[list[SampledCall]]()
        for step in self.steps:
            if step.call is None or step.call.prompt_ids is None:
                continue
            call = before.shortened(step.call)
            added, ids, logprobs = call.prompt_ids or (), call.completion_ids or (), call.logprobs or ()
            if len(ids) != len(logprobs):
                raise PolicyError(f"step {step.index} has {len(ids)} sampled tokens and {len(logprobs)} logprobs")
            if call.continues and not found:
                raise PolicyError(f"step {step.index} goes on from tokens that the record does not have")
            if not call.continues:
                found.append([])
            length = len(added) + (found[-1][-1].length if call.continues else 0)
            made = SampledCall(
                index=step.index,
                prompt_length=length,
                added_ids=added,
                completion_ids=ids,
                logprobs=logprobs,
                finish_reason="stop",
                engine=call.engine or "",
                weight_version=call.weight_version,
            )
            found[-1].append(made)
        return found


class CallName(Frozen):
    """A call to a model: which one it was, and what it sampled."""

    model_config = ConfigDict(extra="ignore")

    call_id: str = ""
    completion_ids: tuple[int, ...] | None = None


class BareStep(Frozen):
    """A step as far as whoever looks at an episode is shown it."""

    model_config = ConfigDict(extra="ignore")

    action: Action
    observation: Observation
    call: CallName | None = None


class Excerpt(Frozen):
    """Of a trajectory, however long, what is shown of its episode."""

    header: Header
    turns: int
    last: tuple[BareStep, ...] = ()
    """The last two steps."""
    called: BareStep | None = None
    """The step whose call has the id that was asked for."""


def record_digest(steps: Sequence[Step]) -> Digest:
    """Of what was done and what came of it, without times."""
    return digest.of_json([[step.action.model_dump(mode="json"), step.observation_digest] for step in steps])
