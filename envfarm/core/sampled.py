"""What a trainer receives of an episode's model calls: the tokens as the engine sampled them.

Made by `envfarm.gateway`, one `Sampled` per episode. Calls form a forest: each goes on from the call before it, or from none; sub-agents
and compaction begin new branches. A branch is the way from a root to a call that none goes on from; it is laid out for a learner when
it is read, so that what is kept and sent holds each token once.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

from pydantic import ConfigDict

from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId
from envfarm.core.image import BlobRef
from envfarm.core.model_call import ModelCall

FinishReason = Literal["stop", "length"]
DriftReason = Literal["changed", "foreign"]


class DriftSpan(Frozen):
    """Tokens of a prompt that stand for words of an assistant and were rendered from text, since none were sampled there.

    They are masked: whatever was sampled for like words elsewhere, it was not sampled here.
    """

    start: int
    """The first token's place in the row or, in a call, behind the call that it goes on from."""
    end: int
    """Behind the last."""
    reason: DriftReason
    """`changed`: the episode has sampled an answer that the agent then altered, left out or moved. `foreign`: nothing was sampled yet."""
    messages: int
    """How many of the assistant's messages the span holds."""


class WeightChange(Frozen):
    """Other weights took over while a call was sampled."""

    at: int
    """Their first token's place in the completion."""
    weight_version: str | None


class SampledCall(Frozen):
    """One call of the engine, with only those prompt tokens that its parent does not hold already (`Sampled.prompt_ids` gives all)."""

    index: int
    """Calls are counted in the order in which they ended."""
    parent: int | None = None
    """The call whose tokens are this one's first."""
    prompt_length: int
    """All tokens of the prompt."""
    added_ids: tuple[int, ...]
    """The prompt's tokens behind the parent's last."""
    completion_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """One per completion id, as the engine gave them."""
    drift: tuple[DriftSpan, ...] = ()
    """Within `added_ids`."""
    finish_reason: FinishReason
    engine: str
    weight_version: str | None = None
    """Of the first token, and of all where nothing changed."""
    weight_changes: tuple[WeightChange, ...] = ()
    """In order."""
    experts: BlobRef | None = None
    """Routed experts as the engine's bytes, by reference to the blob store."""
    dialect: str = ""
    text: str = ""
    """What the completion decodes to."""
    delivered: bool = True
    """Whether the whole answer was sent to an agent that still waited for it. In older records it is not known, and True."""

    @property
    def length(self) -> int:
        """All tokens up to the end of the completion."""
        return self.prompt_length + len(self.completion_ids)


class Segment(Frozen):
    """A stretch of a row that one call sampled with the same weights."""

    start: int
    end: int
    """Behind the last."""
    call: int
    """`SampledCall.index`, or the `index` of the step behind which it was made."""
    engine: str
    weight_version: str | None = None


class TrainingRow(Frozen):
    """A whole conversation as a learner wants it: three columns of one length, and where they come from."""

    ids: tuple[int, ...]
    mask: tuple[int, ...]
    """1 where the policy sampled the token, 0 where the template, the agent or a tool gave it."""
    logprobs: tuple[float, ...]
    """0.0 where the mask is 0."""
    segments: tuple[Segment, ...]
    """Exactly the stretches where the mask is 1, in order."""
    drift: tuple[DriftSpan, ...] = ()
    """Empty where the conversation is as it was sampled."""
    shared: int = 0
    """So many first tokens stand in an earlier row of the episode as well: a loss over all rows counts them there, once."""


class CallFailure(Frozen):
    """A call that came to nothing, with its `Cause` (`envfarm.core.errors`)."""

    cause: str
    detail: str


class Sampled(Frozen):
    """All that an episode's agent had sampled."""

    model_config = ConfigDict(extra="ignore")
    """Older records hold their branches laid out, too."""

    kind: Literal["sampled"] = "sampled"
    episode: EpisodeId
    calls: tuple[SampledCall, ...] = ()
    failures: tuple[CallFailure, ...] = ()
    """The last few calls that failed by the engine or the gateway, and times in which the farm could not reach the box; oldest first."""
    failed_calls: int = 0
    outage_s: float = 0.0
    """For how long the engines could not be had: calls that failed, times in which the farm could not reach the box, and the wait behind
    each until the agent asked again."""
    spent: Literal["", "tokens", "context", "turns"] = ""
    """Which budget refused a call; `turns` are calls."""
    last: Literal["", "answered", "failed", "context"] = ""
    """How the call ended that ended last: `failed` by the engine or the gateway, or since then the farm could not reach the box."""

    @property
    def completion_tokens(self) -> int:
        """Sampled tokens of all calls."""
        return sum(len(call.completion_ids) for call in self.calls)

    @cached_property
    def branches(self) -> tuple[TrainingRow, ...]:
        """Every way from a root to a call that none goes on from, in the order of those calls.

        Laid out when it is first asked for: what many branches begin with stands in each of them.
        """
        inner = {call.parent for call in self.calls}
        told: set[int] = set()
        made = []
        for leaf in self.calls:
            if leaf.index in inner:
                continue
            path = self.path(leaf.index)
            shared = max((c.length for c in path if c.index in told), default=0)
            made.append(training_row(path, shared))
            told.update(c.index for c in path)
        return tuple(made)

    def path(self, call: int) -> tuple[SampledCall, ...]:
        """The calls from a root to this one. Raises `IndexError` for a call that is none."""
        chain: list[SampledCall] = []
        at: int | None = call
        while at is not None:
            chain.append(self.calls[at])
            at = self.calls[at].parent
        return tuple(chain[::-1])

    def prompt_ids(self, call: int) -> tuple[int, ...]:
        """All ids that the engine was given for a call. Raises `IndexError` for a call that is none."""
        ids: list[int] = []
        for one in self.path(call):
            ids += one.added_ids if one.index == call else one.added_ids + one.completion_ids
        return tuple(ids)

    def model_call(self, call: int) -> ModelCall:
        """The same as a trajectory's record, with the first of its weights. Raises `IndexError` for a call that is none."""
        made = self.calls[call]
        return ModelCall(
            prompt_tokens=made.prompt_length,
            completion_tokens=len(made.completion_ids),
            prompt_ids=self.prompt_ids(call),
            completion_ids=made.completion_ids,
            logprobs=made.logprobs,
            weight_version=made.weight_version,
            engine=made.engine,
            finish_reason=made.finish_reason,
            text=made.text,
        )


def training_row(path: Sequence[SampledCall], shared: int = 0) -> TrainingRow:
    """The row of calls of which each goes on from the one before."""
    ids: list[int] = []
    mask: list[int] = []
    logprobs: list[float] = []
    segments, drift = [], []
    for call in path:
        start = len(ids)
        drift += [span.model_copy(update={"start": start + span.start, "end": start + span.end}) for span in call.drift]
        ids += call.added_ids
        mask += [0] * len(call.added_ids)
        logprobs += [0.0] * len(call.added_ids)
        start = len(ids)
        ids += call.completion_ids
        mask += [1] * len(call.completion_ids)
        logprobs += call.logprobs
        segments += _segments(call, start)
    return TrainingRow(
        ids=tuple(ids), mask=tuple(mask), logprobs=tuple(logprobs), segments=tuple(segments), drift=tuple(drift), shared=shared
    )


def _segments(call: SampledCall, start: int) -> list[Segment]:
    """Those of one call whose completion begins at `start`."""
    weights = (WeightChange(at=0, weight_version=call.weight_version), *call.weight_changes)
    ends = [*(change.at for change in call.weight_changes), len(call.completion_ids)]
    return [
        Segment(start=start + one.at, end=start + end, call=call.index, engine=call.engine, weight_version=one.weight_version)
        for one, end in zip(weights, ends, strict=True)
    ]
