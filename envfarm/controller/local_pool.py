"""The embedded pool: runs a run's episodes as tasks of this process, a bounded number of boxes at once.

Called by the command line and by whoever embeds a farm. Whatever happens to the process, a later one goes on: the store knows which
episodes are not done, their trajectories say how far they came, and left-over boxes are found by label. It decides on retries alone;
what an episode comes to is the runner's.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from envfarm.controller.attempts import Role, Stage, attempt
from envfarm.controller.owners import Owners
from envfarm.controller.refusals import GivenUp, Refusals
from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import EnvfarmError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import RunId
from envfarm.core.outcome import Invalid, Outcome
from envfarm.core.protocols import TrajectoryStore
from envfarm.core.retry import backoff_s
from envfarm.core.usage import Bill
from envfarm.episodes.runner import EpisodeRunner
from envfarm.stores.episodes import Claim, SqlEpisodes


class PoolOptions(Frozen):
    """A pool's bounds."""

    boxes: int = Field(default=2, gt=0)
    """Agents' boxes at once. Graders bring their own."""
    retries: int = Field(default=2, ge=0)
    """How often an episode that came to a retryable `Invalid`, or whose process died, is tried again, over all processes; then it is
    poisoned."""
    refusals: int = Field(default=3, gt=0)
    """After so many episodes of a policy that all ended by the same refusal of its endpoint, no further one of it is begun."""
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    """Waits between tries double from the first to the longest."""


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """Something that a person watching may want to see."""

    kind: Literal["started", "retrying", "ended"]
    spec: EpisodeSpec
    outcome: Outcome | None = None
    """Of the attempt for `retrying`, of the episode for `ended`."""
    attempts: int = 0
    """Failed ones so far."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Where a run stands when the pool lets go of it."""

    run_id: RunId
    states: dict[str, int]
    interrupted: bool
    given_up: tuple[GivenUp, ...] = ()
    """Policies whose further episodes were left pending, because their endpoint refuses them."""

    @property
    def complete(self) -> bool:
        """Whether every episode has its outcome."""
        return not any(self.states.get(state) for state in ("pending", "running"))


@dataclass(frozen=True, slots=True)
class PoolParts:
    """What a pool is made of."""

    episodes: SqlEpisodes
    trajectories: TrajectoryStore
    runner: EpisodeRunner
    owners: Owners
    cast: Callable[[EpisodeSpec], Awaitable[Role]]
    """Finds task and environment and makes a fresh policy. Raises `EnvfarmError`s."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    collect: Callable[[], Awaitable[int]] | None = None
    """Removes what killed processes left, boxes and all, before anything is played."""


class LocalPool:
    """Runs one run at a time."""

    def __init__(self, parts: PoolParts, options: PoolOptions, *, progress: Callable[[PoolEvent], None] = lambda _: None) -> None:
        self._parts = parts
        self._options = options
        self._progress = progress
        self._workers: list[asyncio.Task[None]] = []
        self._stopping = False
        self._refusals = Refusals(options.refusals)

    async def run(self, run: RunId, specs: Sequence[EpisodeSpec] = (), *, note: str = "", signals: bool = False) -> RunReport:
        """Play the run's episodes that have no outcome yet: these, and those that earlier processes left.

        `signals` has SIGINT and SIGTERM call `stop` (main thread only). Raises `StoreError` when the truth cannot be kept, and
        `UsageError` when the run knows one of the episodes under another spec.
        """
        self._stopping = False
        self._refusals = Refusals(self._options.refusals)
        await self._parts.episodes.start_run(run, note=note)
        await self._parts.episodes.add_specs(specs)
        with self._parts.owners.hold() as owner:
            if self._parts.collect is not None:
                await self._parts.collect()
            await self._take_over(run)
            self._workers = [asyncio.create_task(self._work(run, owner)) for _ in range(self._options.boxes)]
            caught = self._catch_signals() if signals else ()
            try:
                await self._until_done()
            finally:
                for number in caught:
                    asyncio.get_running_loop().remove_signal_handler(number)
                # What a worker claimed in the moment it was stopped, and what it would not begin. If this fails too, the next process
                # finds it by its dead owner.
                with suppress(EnvfarmError):
                    await self._parts.episodes.let_go(run, owner)
        given_up = tuple(self._refusals.given_up.values())
        return RunReport(run, await self._parts.episodes.counts(run), interrupted=self._stopping, given_up=given_up)

    def stop(self) -> None:
        """Stop in good order: boxes are closed, unfinished episodes go back to pending with their trajectories, `run` returns."""
        self._stopping = True
        for worker in self._workers:
            worker.cancel()

    def _catch_signals(self) -> tuple[signal.Signals, ...]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.stop)
        return numbers

    async def _until_done(self) -> None:
        try:
            await asyncio.wait(self._workers, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            # An error of one worker (the store) or an interruption ends all; each still closes its box.
            for worker in self._workers:
                worker.cancel()
            results = await asyncio.gather(*self._workers, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    async def _take_over(self, run: RunId) -> None:
        for owner in await self._parts.episodes.owners(run):
            if not self._parts.owners.alive(owner):
                await self._parts.episodes.take_over(run, owner)
        self._parts.owners.collect()

    async def _work(self, run: RunId, owner: str) -> None:
        while not self._stopping:
            claim = await self._parts.episodes.claim(run, owner)
            if claim is None:
                return
            if not self._refusals.gave_up(claim.spec.policy):  # else it stays claimed until all are let go: nobody is given it again
                await self._see_through(claim)

    async def _see_through(self, claim: Claim) -> None:
        """Play an episode, again where that may help, and commit what it comes to."""
        spec, attempts, bill = claim.spec, claim.attempts, Bill()
        stage = Stage(self._parts.trajectories, self._parts.runner, self._parts.cast)
        self._progress(PoolEvent("started", spec, attempts=attempts))
        try:
            while True:
                bill = Bill()
                outcome = await attempt(stage, claim, retries=self._options.retries, bill=bill)
                await self._parts.episodes.bill(claim, bill.total, attempts=attempts)
                if not (isinstance(outcome, Invalid) and outcome.retryable) or attempts >= self._options.retries:
                    break
                attempts += 1
                if not await self._parts.episodes.note_attempt(spec.episode_id, claim.epoch, detail=outcome.detail, attempts=attempts):
                    return  # somebody with a higher epoch has it: what happens to it is theirs to tell
                self._progress(PoolEvent("retrying", spec, outcome, attempts))
                await self._parts.sleep(backoff_s(attempts, first_s=self._options.first_wait_s, longest_s=self._options.longest_wait_s))
            committed = await self._parts.episodes.commit(spec.episode_id, outcome, epoch=claim.epoch)
        except asyncio.CancelledError:
            # If this fails too, the next process finds the episode by its dead owner.
            with suppress(EnvfarmError):
                await self._parts.episodes.bill(claim, bill.total, attempts=attempts)
                await self._parts.episodes.put_back(spec.episode_id, claim.epoch, detail="interrupted", attempts=attempts)
            raise
        if committed:
            self._refusals.learn(spec.policy, outcome)
            self._progress(PoolEvent("ended", spec, outcome, attempts))
