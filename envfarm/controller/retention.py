"""What is over for long enough goes: its files, then its rows, so that whoever is killed in between leaves rows, which are found again.

Run by a host, beside all else that it does. Which rollouts may go the database says; nothing unacknowledged ever does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from envfarm.core.errors import EnvfarmError
from envfarm.core.ids import EpisodeId
from envfarm.stores.rollout_results import SqlRolloutResults

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long is kept what."""

    results: SqlRolloutResults
    forget: Callable[[Sequence[EpisodeId]], Awaitable[None]] | None
    """Deletes episodes' trajectories."""
    keep_s: float
    keep_bills_s: float

    async def run(self, *, every_s: float) -> None:
        """Look again and again. Where there is much, one batch follows another."""
        while True:
            try:
                await self.results.forget_bills(older_s=self.keep_bills_s)
                while await self._some():
                    pass
            except EnvfarmError as e:
                log.warning("what is over cannot be forgotten: %s", e)
            await asyncio.sleep(every_s)

    async def _some(self) -> bool:
        gone = await self.results.over(older_s=self.keep_s)
        if gone and self.forget is not None:
            await self.forget(gone)
        if gone:
            await self.results.forget(gone, older_s=self.keep_s)
        return bool(gone)
