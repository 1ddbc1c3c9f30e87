"""Wake-ups inside one process: who waits for something to change is woken by who changed it, without asking the database all the time.

Used by the service and its host. A bell carries no news: who is woken looks at the store. Other processes' changes ring none, which is why
every wait has an end.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

QUEUE = "queue"
"""Something may be played that could not be before."""


class Bells:
    """Bells by name: `queue`, a tenant's results, a rollout, an episode."""

    def __init__(self) -> None:
        self._listening: dict[str, set[asyncio.Event]] = {}

    def ring(self, *names: str) -> None:
        """Wake everybody who listens to one of these."""
        for name in names:
            for heard in self._listening.get(name, ()):
                heard.set()

    @contextmanager
    def listen(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set by every ring from now on: clear it, look, and only then wait for it."""
        heard = asyncio.Event()
        self._listening.setdefault(name, set()).add(heard)
        try:
            yield heard
        finally:
            self._listening[name].discard(heard)
            if not self._listening[name]:
                del self._listening[name]


async def heard_in(heard: asyncio.Event, seconds: float) -> bool:
    """Wait for a ring, at most so long; whether it rang."""
    try:
        async with asyncio.timeout(max(seconds, 0.0)):
            await heard.wait()
    except TimeoutError:
        return False
    return True


def results_of(tenant: str) -> str:
    """The bell of a tenant's finished groups."""
    return f"results {tenant}"
