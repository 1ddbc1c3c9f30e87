"""What a farm tells of what it has: tasks, datasets, episodes and their records, tenants. Made by the API, read by the client."""

from typing import Annotated

from pydantic import Field, model_validator

from envfarm.core.difficulty import Difficulty
from envfarm.core.episode import EpisodeSpec
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, EpisodeId, RunId, TaskDigest, TenantId
from envfarm.core.outcome import Censored, Invalid, Scored
from envfarm.core.rollout import MAX_TASKS, NAME, Quota, TaskSelector, Text
from envfarm.core.task import Limits
from envfarm.core.trajectory import Trajectory

DIGEST = r"^sha256:[0-9a-f]{64}$"
MAX_NAMED = 10_000
Name = Annotated[str, Field(pattern=NAME)]


class TaskInfo(Frozen):
    """A task, as a list shows it."""

    digest: TaskDigest
    name: str
    kind: str
    language: str
    licence: str
    repository: str
    source_url: str
    state: str
    providers: tuple[str, ...]
    """Whose boxes it passed every gate in."""
    scored: int = 0
    """Of the tenant's own episodes on it."""
    pass_rate: float | None = None
    """Their mean reward; null without any."""


class TaskDetail(TaskInfo):
    """A task, as an agent is told it."""

    instruction: str
    limits: Limits
    work_dir: str
    difficulty: Difficulty = "unknown"
    """As its solution's length and tools tell it; `pass_rate` says more."""


class TaskPage(Frozen):
    """Some of the selected tasks, by name."""

    items: tuple[TaskInfo, ...]
    total: int
    next: str | None


class EpisodeInfo(Frozen):
    """An episode, as a list shows it."""

    id: EpisodeId
    rollout: RunId
    group: str
    version: int | None
    """The policy version that its group is played under; null before the group has begun."""
    task: TaskDigest
    task_name: str = ""
    """Empty for one that the catalogue has no more."""
    member: int
    policy: str
    state: str
    attempts: int
    """Failed tries."""
    kind: str
    """Of the outcome: `scored`, `invalid`, `censored`; empty before there is one."""
    reward: float | None
    """Of a censored one, what was left at the end scores, where it was graded."""
    verdict: str
    why: str
    """In a line: why the outcome is what it is."""


class EpisodePage(Frozen):
    """Some of a tenant's episodes: the newest rollout's first, and inside one in its order."""

    items: tuple[EpisodeInfo, ...]
    next: str | None
    """The cursor of the next page; null at the end."""


class EpisodeRecord(Frozen):
    """An episode with all that happened in it."""

    spec: EpisodeSpec
    state: str
    outcome: Scored | Invalid | Censored | None
    trajectory: Trajectory | None
    """The last attempt; null before the first box."""


class TrajectoryPage(Frozen):
    """Some of a rollout's episodes, in their order."""

    items: tuple[EpisodeRecord, ...]
    next: str | None


class CatalogueInfo(Frozen):
    """What bringing a task to a farm takes."""

    sandbox: str
    """Whose boxes the farm plays in."""
    builds: bool
    """Whether it makes environments itself, from a task and its checkout. Else a task comes with one that exists."""
    max_archive_bytes: int
    """Of a task's archive, and of a report, as they are sent."""
    max_blob_bytes: int


class TasksAndBlobs(Frozen):
    """Some of a catalogue's tasks and blobs, by their digests."""

    tasks: tuple[Annotated[TaskDigest, Field(pattern=DIGEST)], ...] = Field(default=(), max_length=MAX_NAMED)
    blobs: tuple[Annotated[Digest, Field(pattern=DIGEST)], ...] = Field(default=(), max_length=MAX_NAMED)


class Me(Frozen):
    """Who asks, and what the farm is."""

    tenant: TenantId
    scopes: tuple[str, ...]
    quota: Quota
    sandbox: str
    """Whose boxes the farm plays in."""


class Explanation(Frozen):
    """An episode in words for people, as `envfarm episode show` prints it."""

    spec: EpisodeSpec
    task_name: str
    """Empty for one that the catalogue has no more."""
    state: str
    attempts: int
    """Failed tries."""
    detail: str
    """Of the last failed one."""
    verdict: str
    why: tuple[str, ...]
    """The verdict first, then what it rests on; empty before there is one."""


class NewDataset(Frozen):
    """A dataset to be made: of given splits, or of a selection that is split here."""

    name: Name
    version: Name
    splits: dict[Name, Annotated[tuple[Text, ...], Field(max_length=MAX_TASKS)]] = Field(default={}, max_length=20)
    """Names or digests of tasks, by split: 10,000 at most, as in `TaskSelector.names`."""
    tasks: TaskSelector | None = None
    """Instead of `splits`: these, into `train` and `eval`, whole repositories each."""
    eval_share: float = Field(default=0.1, ge=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _not_too_many(self) -> "NewDataset":
        if (many := sum(map(len, self.splits.values()))) > MAX_TASKS:
            raise ValueError(f"{many} names of tasks, and {MAX_TASKS} are the most")
        return self


class DatasetView(Frozen):
    """A dataset."""

    name: str
    version: str
    digest: Digest
    splits: dict[str, tuple[TaskDigest, ...]]


class Use(Frozen):
    """A tenant, and its episodes by state."""

    tenant: TenantId
    quota: Quota
    episodes: dict[str, int]


class NewToken(Frozen):
    """A token to be made."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")
    scopes: frozenset[str] = frozenset({"rollouts", "episodes", "rewards", "tasks", "datasets", "policies"})


class Issued(Frozen):
    """A token, seen this one time."""

    token: str


class Revoked(Frozen):
    """How many tokens are worth nothing from now on."""

    revoked: int


class Cancelled(Frozen):
    """What a call stopped of a tenant's work; nothing where all of it was over."""

    rollouts: int
    running_episodes: int
    """Of these rollouts, that a host was playing; what waited is not counted."""
