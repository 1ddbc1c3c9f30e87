"""What a farm tells of itself and of what it has: tasks, episodes and their records, page by page. Made by the API, read by the client."""

from typing import Annotated

from pydantic import Field

from envfarm.core.difficulty import Difficulty
from envfarm.core.episode import EpisodeSpec
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, EpisodeId, RunId, TaskDigest, TenantId
from envfarm.core.outcome import Censored, Invalid, Scored
from envfarm.core.rollout import Quota
from envfarm.core.task import Limits
from envfarm.core.trajectory import Trajectory

DIGEST = r"^sha256:[0-9a-f]{64}$"
MAX_NAMED = 10_000


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
    """Whose boxes the farm plays in: what rollouts ask for."""
