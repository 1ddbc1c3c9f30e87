"""What a trainer asks for and what it gets: rollouts, their groups, their events. The words of the API, the client and the controller."""

from itertools import chain
from typing import Annotated, Literal

from pydantic import Field, model_validator

from envfarm.core.action import Action
from envfarm.core.episode import SEEDS, Budgets, PolicySpec
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, GroupId, RunId, TaskDigest, TenantId
from envfarm.core.model_call import ModelCall
from envfarm.core.observation import Observation
from envfarm.core.outcome import Censored, Invalid, Scored

MAX_GROUP = 1024
MAX_TASKS = 10_000
ROUNDING = 1e-3
"""How far above 0 a logprob may be: engines round."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
Kind = Literal["rollout", "episode", "reward"]
RolloutState = Literal["active", "done", "cancelled"]


Text = Annotated[str, Field(max_length=200)]
Sandbox = Annotated[str, Field(max_length=200, description="Whose boxes: the farm's own where empty. Another one is refused.")]


class TaskSelector(Frozen):
    """Which tasks. Those named, or those of the catalogue that pass every field; only valid ones are ever drawn."""

    names: tuple[Text, ...] = Field(default=(), max_length=MAX_TASKS)
    """Names or digests, or (of 100 at most) unique beginnings of them, or unique ends of names. Of the other fields `seed` and `limit`
    alone go with them."""
    dataset: Text = ""
    """`name@version`."""
    split: Text = ""
    kind: Text = ""
    language: Text = ""
    provider: Text = ""
    """Valid in this provider's boxes."""
    min_pass_rate: float | None = Field(default=None, ge=0, le=1)
    max_pass_rate: float | None = Field(default=None, ge=0, le=1)
    """Over the tenant's own scored episodes. With a bound, tasks that were never scored are left out."""
    limit: int | None = Field(default=None, ge=1, le=MAX_TASKS)
    """At most so many, drawn with `seed`; all where absent."""
    seed: int = Field(default=0, ge=0, lt=2**63)


class RolloutRequest(Frozen):
    """A group of episodes on each of some tasks."""

    tasks: TaskSelector
    group_size: int = Field(default=1, ge=1, le=MAX_GROUP)
    policy: PolicySpec
    """Its options may have 1 MiB as JSON (those of `patch` more); times all episodes of the rollout, 64 MiB."""
    policy_name: str = Field(default="default", pattern=NAME)
    """Whose versions the groups are held to: see `PolicyState`."""
    version_window: int = Field(default=1, ge=0, le=1_000_000)
    """How many versions a group in flight may fall behind before it begins anew."""
    budgets: Budgets = Budgets()
    sandbox: Sandbox = ""
    seed: int | None = Field(default=None, ge=0, lt=SEEDS)
    """Member n of each group plays with `seed + n`. Drawn where absent; the rollout's view says which it is."""
    deadline_s: float | None = Field(default=None, gt=0, le=30 * 86400)
    """Seconds from now, after which the rollout is cancelled."""
    metadata: dict[str, str] = Field(default={}, max_length=64)
    """The trainer's own words, given back with each group: at most 64 KiB as JSON."""


class RolloutView(Frozen):
    """Where a rollout stands."""

    id: RunId
    kind: Kind
    state: RolloutState
    request: RolloutRequest
    """As it was asked for, but for what is `left_out`."""
    left_out: tuple[str, ...] = ()
    """Of `tasks.names` and `policy.options` what is empty in this `request` because it has more than 16 KiB as JSON.
    `GET /v1/rollouts/{id}?whole=true` leaves nothing out."""
    created: float
    """Seconds since 1970, by the database's clock."""
    groups: dict[str, int]
    """How many are waiting, playing, ready, acknowledged, cancelled."""
    episodes: dict[str, int]
    """How many are pending, running, done, poisoned, cancelled, in the groups' present rounds."""


class Member(Frozen):
    """One episode of a group, as it came out."""

    episode: EpisodeId
    member: int
    seed: int
    outcome: Scored | Invalid | Censored


class GroupResult(Frozen):
    """A finished group. Every member is there, whatever it came to: a group is never silently short."""

    group: GroupId
    rollout: RunId
    task: TaskDigest
    task_name: str = ""
    """Empty for one that the catalogue has no more."""
    version: int
    """The one policy version that all members were played under."""
    complete: bool
    """Whether every member counts: none is `Invalid`."""
    members: tuple[Member, ...]
    metadata: dict[str, str] = {}
    redelivered: bool = False
    """Whether it was leased before: somebody may have trained on it already, and not have said so in time."""


class LeasedGroup(Frozen):
    """A group that this caller has for a while. Not acknowledged in time, it is given out again."""

    lease: str
    until: float
    """Seconds since 1970, by the database's clock."""
    result: GroupResult


class Leased(Frozen):
    """Groups that are one caller's for a while; none where nothing was ready in time."""

    groups: tuple[LeasedGroup, ...]


class Acknowledged(Frozen):
    """What became of leases that a trainer said were done with."""

    acknowledged: tuple[str, ...]
    lapsed: tuple[str, ...]
    """Unknown ones, and those that were given to somebody else meanwhile."""


class RolloutEvent(Frozen):
    """Something that happened to a rollout, in the order of `number` (from 1, without gaps)."""

    number: int
    at: float
    """Seconds since 1970, by the database's clock."""
    kind: Literal["accepted", "started", "retrying", "ended", "group ready", "group again", "done", "cancelled"]
    body: dict[str, str | int | float | bool | None]


class LeaseRequest(Frozen):
    """What a trainer wants of finished groups."""

    limit: int = Field(default=1, ge=1, le=256)
    lease_s: float = Field(default=300.0, gt=0, le=86400)
    """How long the groups are this caller's; not acknowledged by then, they are given out again."""
    wait_s: float = Field(default=0.0, ge=0, le=60)
    """How long to wait for the first group; no longer where none of `rollouts` has one to come."""
    rollouts: tuple[str, ...] = Field(default=(), max_length=256)
    """Of these alone; of all where empty."""


class EpisodeRequest(Frozen):
    """An episode whose actions the trainer chooses."""

    task: str
    """A name or digest, or a unique beginning of one."""
    budgets: Budgets = Budgets()
    """`seconds` runs while the trainer thinks, too."""
    sandbox: Sandbox = ""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    metadata: dict[str, str] = Field(default={}, max_length=64)


class ForkRequest(Frozen):
    """Where a fork goes on: after all steps so far, but for a last `Finish`, where nothing is said."""

    snapshot: str = Field(default="", max_length=200)
    """What `POST …/snapshot` gave."""
    turns: int | None = Field(default=None, ge=0, lt=2**31)
    """After so many steps instead."""


class SnapshotView(Frozen):
    """A name for what an episode has come to. It lasts as long as the episode's record."""

    episode: EpisodeId
    snapshot: str
    turns: int


class BranchView(Frozen):
    """Where a fork came from."""

    episode: EpisodeId
    turns: int
    agreed: bool | None
    """Whether the fork's box answered those steps as the parent's did; null before it was asked. Where not, it began at the first step."""
    detail: str


class EpisodeView(Frozen):
    """Where such an episode stands."""

    id: EpisodeId
    state: Literal["queued", "ready", "busy", "ended"]
    """`queued`: has no box yet (or lost it, and is brought back); `ready`: waits for an action; `busy`: an action or the grading runs."""
    task: TaskDigest
    instruction: str = ""
    turns: int = 0
    observation: Observation | None = None
    """Of the last action."""
    terminated: bool = False
    """It ended by itself, and was graded."""
    truncated: bool = False
    """It ran out of a budget."""
    outcome: Scored | Invalid | Censored | None = None
    branch: BranchView | None = None
    """Of a fork."""


class StepRequest(Frozen):
    """An action, under a name of the trainer's: the same step id never runs twice."""

    step_id: str = Field(min_length=1, max_length=200)
    action: Action
    call: ModelCall | None = None
    """The model call behind it, to be kept with the step: ids from 0, and no logprobs or one for each completion id, none above 0."""

    @model_validator(mode="after")
    def _tokens_that_can_be(self) -> "StepRequest":
        call = self.call
        if call is None:
            return self
        if call.logprobs is not None and len(call.logprobs) != len(call.completion_ids or ()):
            raise ValueError(f"{len(call.logprobs)} logprobs for {len(call.completion_ids or ())} completion ids")
        if (highest := max(call.logprobs or (0.0,))) > ROUNDING:
            raise ValueError(f"a logprob is {highest:g}: probabilities are at most 1")
        if (lowest := min(chain(call.prompt_ids or (), call.completion_ids or ()), default=0)) < 0:
            raise ValueError(f"a token id is {lowest}")
        return self


class StepView(Frozen):
    """What came of a step; `done` is false where it still runs: ask again with the same step id."""

    step_id: str
    done: bool
    observation: Observation | None = None
    episode: EpisodeView


class RewardRequest(Frozen):
    """A finished change to be graded."""

    task: str
    """A name or digest, or a unique beginning of one."""
    patch: str = Field(max_length=4_000_000)
    """A unified diff as `git apply` takes it, from the task's work dir."""
    sandbox: Sandbox = ""
    metadata: dict[str, str] = Field(default={}, max_length=64)


class RewardView(Frozen):
    """What a change is worth."""

    id: EpisodeId
    outcome: Scored | Invalid | Censored | None = None
    """None while it is still being graded: ask again with the same key."""
    applied: bool | None = None
    """Whether the patch applied. One that does not leaves the task as it was, which is then what is graded."""
    refusal: str = ""
    """What the tool said that could not apply it."""


class PolicyState(Frozen):
    """A tenant's policy, whose version a trainer moves on."""

    name: str
    version: int
    paused: bool
    rollouts: int = 0
    """The tenant's active rollouts that follow it: where a trainer expects some, 0 is a mistyped name."""


class Quota(Frozen):
    """What a tenant may have at once."""

    unfinished_episodes: int = Field(default=200_000, ge=0)
    live_episodes: int = Field(default=10_000, ge=0)
    active_rollouts: int = Field(default=20_000, ge=0)
    active_policies: int = Field(default=256, ge=0)
    """Policy names of its active rollouts: a host looks at what waits of each."""
    unacknowledged_groups: int = Field(default=200_000, ge=0)
    remembered_policies: int = Field(default=10_000, ge=0)
    """Policy names that have a version above 0, or are paused: they are kept for ever."""
    datasets: int = Field(default=1000, ge=0)
    """Versions of datasets, which are kept for ever."""


class Principal(Frozen):
    """Who asks."""

    tenant: TenantId
    scopes: frozenset[str]
