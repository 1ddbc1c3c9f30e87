"""How long a host may still believe in its lease, and a journal that believes it no longer.

The database fences outcomes by their epoch; a journal in files knows no epochs. A host that slept past its lease (or lost the database)
must not append to a trajectory that another host writes by now: its own monotonic clock, which goes on while it sleeps, tells it so.
"""

from envfarm.core.errors import StoreError
from envfarm.core.ids import EpisodeId
from envfarm.core.protocols import Clock, TrajectoryStore
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import End, Header, Step, Trajectory


class Tenure:
    """Until when a host's lease stands at least, by this process's clock. Nobody's at first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = float("-inf")

    def now(self) -> float:
        """The moment to remember before asking for a lease."""
        return self._clock.monotonic()

    def granted(self, asked_at: float, lease_s: float) -> None:
        """A lease that was asked for then is held: it began no earlier."""
        self._until = asked_at + lease_s

    @property
    def stands(self) -> bool:
        """Whether nobody can have taken the lease yet."""
        return self._clock.monotonic() < self._until


class FencedTrajectories:
    """A trajectory store for one host: reads as ever, and writes nothing once the tenure is over."""

    def __init__(self, store: TrajectoryStore, tenure: Tenure) -> None:
        self._store = store
        self._tenure = tenure

    async def append(self, episode: EpisodeId, line: Header | Step | Sampled | End) -> None:
        """See `TrajectoryStore.append`. Raises `StoreError` when the lease may be another's."""
        if not self._tenure.stands:
            raise StoreError(f"the lease has lapsed: the trajectory of {episode} may be another host's")
        await self._store.append(episode, line)

    async def read(self, episode: EpisodeId) -> Trajectory:
        """See `TrajectoryStore.read`."""
        return await self._store.read(episode)

    async def last(self, episode: EpisodeId) -> Trajectory | None:
        """See `TrajectoryStore.last`."""
        return await self._store.last(episode)
