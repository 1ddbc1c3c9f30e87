"""What the API serves: everything that a resource may ask, handed to `create_app` by whoever wires a farm."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pydantic import Field

from envfarm.controller.engine_list import EngineList
from envfarm.controller.forks import Forks
from envfarm.controller.service import PolicyVersions, RolloutService
from envfarm.controller.step_episodes import StepEpisodes
from envfarm.core.frozen import Frozen
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.stores.access import SqlAccess
from envfarm.stores.blobs import FileBlobStore
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.catalogue_datasets import Datasets
from envfarm.stores.episode_lists import SqlEpisodeLists
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollouts import SqlRollouts
from envfarm.stores.usage import SqlUsage


class ApiOptions(Frozen):
    """The API's own bounds."""

    max_body_bytes: int = Field(default=16 << 20, gt=0)
    max_step_bytes: int = Field(default=4 << 20, gt=0)
    """Of a step, and of all other calls of episodes. Reading a body holds up every other call, in a thread, too."""
    max_held_bytes: int = Field(default=512 << 20, gt=0)
    """Of all bodies whose calls are not answered yet, but for blobs."""
    max_held_bytes_each: int = Field(default=128 << 20, gt=0)
    """Of one tenant's."""
    body_patience_s: float = Field(default=30.0, gt=0)
    """How long a body may fail to come at `min_body_rate`."""
    min_body_rate: int = Field(default=64 << 10, gt=0)
    """Bytes a second."""
    max_blob_bytes: int = Field(default=1 << 30, gt=0)
    """Of a checkout that is brought: it goes to the disk as it comes."""
    max_unpacked_bytes: int = Field(default=256 << 20, gt=0)
    """Of a task or report that is brought, when it is unpacked: it is held in memory."""
    max_page_bytes: int = Field(default=32 << 20, gt=0)
    """A page of trajectories ends when it has so much, before it is compressed."""
    keep_alive_s: float = Field(default=15.0, gt=0)
    """How often a silent stream of events says that it is alive."""
    most_wait_s: float = Field(default=60.0, gt=0)
    """The longest that a call is held open, whatever it asks for: below the patience of what is in between."""
    most_stream_s: float = Field(default=900.0, gt=0)
    """The longest that a stream of events is held open. Whoever follows comes again, as browsers and the client do."""
    waiting_calls: int = Field(default=256, gt=0)
    """Long polls and streams that one tenant may hold open."""


@dataclass(frozen=True)
class Services:
    """The farm, as the API sees it."""

    rollouts: RolloutService
    versions: PolicyVersions
    steps: StepEpisodes
    forks: Forks
    listing: SqlRollouts
    episodes: SqlEpisodes
    lists: SqlEpisodeLists
    results: SqlRolloutResults
    usage: SqlUsage
    access: SqlAccess
    engines: EngineList
    catalogue: TaskCatalogue
    datasets: Datasets
    blobs: FileBlobStore
    sandbox: str = "local"
    """Whose boxes it plays in."""
    builds: bool = True
    """Whether environments are made here; else they are brought with their tasks."""
    options: ApiOptions = field(default_factory=ApiOptions)
    observer: Observer = UNOBSERVED
    metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None = None
    """What `/metrics` shows, and its media type."""
