"""The farm's engines, in this process: set here or elsewhere, and told to the gateway where there is one.

Made by `wiring_hosts`; run beside whatever plays or serves. The database has the list; a ring says that it is another one.
"""

import logging
from collections.abc import Callable, Sequence

from envfarm.controller.bells import Bells, heard_in
from envfarm.core.engine import EngineSpec
from envfarm.core.errors import EnvfarmError
from envfarm.stores.engines import SqlEngines

log = logging.getLogger(__name__)
BELL = "engines"
RECHECK_S = 10.0
"""Rings may be lost, and on SQLite there are none from other processes."""


class EngineList:
    """One list for every process of a farm."""

    def __init__(
        self,
        kept: SqlEngines,
        bells: Bells,
        apply: Callable[[Sequence[EngineSpec]], None] = lambda _: None,
        *,
        recheck_s: float = RECHECK_S,
    ) -> None:
        """`apply` gives the gateway a list."""
        self._kept = kept
        self._bells = bells
        self._apply = apply
        self._recheck_s = recheck_s
        self._applied: tuple[EngineSpec, ...] = ()

    async def get(self) -> tuple[EngineSpec, ...]:
        """In the order that they were given in. Raises `StoreError`."""
        return await self._kept.get()

    async def replace(self, engines: Sequence[EngineSpec]) -> None:
        """These from now on: here at once, elsewhere when the ring is heard. Raises `StoreError`, and what the gateway says of them."""
        self._tell(tuple(engines))
        await self._kept.replace(engines)
        self._bells.ring(BELL)

    async def refresh(self) -> None:
        """What is listed now: for a program that begins, whose host may not have heard of it. Raises as `replace` does."""
        self._tell(await self._kept.get())

    async def run(self) -> None:
        """Follow the list until this is cancelled. A database that is away changes nothing."""
        with self._bells.listen(BELL) as heard:
            while True:
                heard.clear()
                try:
                    await self.refresh()
                except EnvfarmError as e:
                    log.warning("the list of engines stays as it was: %s", e)
                await heard_in(heard, self._recheck_s)

    def _tell(self, engines: tuple[EngineSpec, ...]) -> None:
        if engines != self._applied:
            self._apply(engines)
            self._applied = engines
