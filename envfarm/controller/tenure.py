"""How long a host may still believe in its lease, and a journal that believes it no longer.

The database fences outcomes by their epoch; a journal in files knows no epochs. A host that slept past its lease (or lost the database)
must not append to a trajectory that another host writes by now: its own monotonic clock, which goes on while it sleeps, tells it so.
"""

import asyncio

from envfarm.core.errors import StoreError
from envfarm.core.ids import EpisodeId
from envfarm.core.protocols import Clock, TrajectoryStore
from envfarm.core.sampled import Sampled
from envfarm.core.trajectory import End, Header, Step, Trajectory

RENEWAL_S = 30.0
"""How long a line waits for a lease that is late: the database was restarted, or the machine is too busy."""


class Tenure:
    """Until when a host's lease stands at least, by this process's clock. Nobody's at first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = float("-inf")
        self._granted = asyncio.Event()

    def now(self) -> float:
        """The moment to remember before asking for a lease."""
        return self._clock.monotonic()

    def granted(self, asked_at: float, lease_s: float) -> None:
        """A lease that was asked for then is held: it began no earlier."""
        self._until = asked_at + lease_s
        self._granted.set()

    @property
    def stands(self) -> bool:
        """Whether nobody can have taken the lease yet."""
        return self._clock.monotonic() < self._until

    async def stands_within(self, wait_s: float) -> bool:
        """Whether it stands, or is granted again in time. Who waits is cancelled when the lease turns out to be another's."""
        try:
            async with asyncio.timeout(wait_s):
                while not self.stands:
                    self._granted.clear()
                    await self._granted.wait()
        except TimeoutError:
            return False
        return True


class FencedTrajectories:
    """A trajectory store for one host: reads as ever, and writes nothing while the tenure may be over."""

    def __init__(self, store: TrajectoryStore, tenure: Tenure, *, renewal_s: float = RENEWAL_S) -> None:
        self._store = store
        self._tenure = tenure
        self._renewal_s = renewal_s

    async def append(self, episode: EpisodeId, line: Header | Step | Sampled | End) -> None:
        """See `TrajectoryStore.append`. Raises `StoreError` when the lease may be another's, and nobody renews it in time."""
        if not (self._tenure.stands or await self._tenure.stands_within(self._renewal_s)):
            raise StoreError(f"the lease has lapsed: the trajectory of {episode} may be another host's")
        await self._store.append(episode, line)

    async def read(self, episode: EpisodeId) -> Trajectory:
        """See `TrajectoryStore.read`."""
        return await self._store.read(episode)

    async def last(self, episode: EpisodeId) -> Trajectory | None:
        """See `TrajectoryStore.last`."""
        return await self._store.last(episode)
