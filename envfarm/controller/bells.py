"""Wake-ups: who waits for something to change is woken by who changed it, without asking the database all the time.

Used by the service and its hosts. A bell carries no news: who is woken looks at the store. Rings reach other processes where there is a
wire between them (`stores.bell_wire`), and may be lost on it, which is why every wait has an end.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

QUEUE = "queue"
"""Something may be played that could not be before."""
CALLED_OFF = "called off"
"""Episodes that somebody plays were called off."""


class Bells:
    """Bells by name: `queue`, a tenant's results, a rollout, an episode."""

    def __init__(self, pass_on: Callable[[Sequence[str]], None] = lambda _: None) -> None:
        """`pass_on` is told every ring of this process, to ring other processes' bells; it must not wait."""
        self._listening: dict[str, set[asyncio.Event]] = {}
        self._pass_on = pass_on

    def ring(self, *names: str) -> None:
        """Wake everybody who listens to one of these, in all processes."""
        self._wake(names)
        self._pass_on(names)

    def rung_elsewhere(self, names: Sequence[str] | None) -> None:
        """Wake who listens here. None stands for all bells: something was rung, and it is not known what."""
        self._wake(list(self._listening) if names is None else names)

    def _wake(self, names: Sequence[str]) -> None:
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
