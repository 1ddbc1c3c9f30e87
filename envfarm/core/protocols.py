"""The contracts between rooms. Implementations never import each other; `envfarm.wiring` joins them.

Each method says its units, its limits and every error that it raises. `envfarm.testing.conformance` checks that a provider keeps them.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from envfarm.core.action import Decision
from envfarm.core.change import CHANGE_BYTES, Change
from envfarm.core.ids import BoxId, Digest, EpisodeId, ExecId
from envfarm.core.image import BlobRef, Built, Environment
from envfarm.core.outcome import Outcome
from envfarm.core.program import Allowance, Part
from envfarm.core.recipe import Recipe
from envfarm.core.sampled import Sampled
from envfarm.core.sandbox import NOBODY, BoxStats, ExecRequest, ExecResult, Holder, MemoryKills, QuiesceReport, SandboxSpec
from envfarm.core.task import Task
from envfarm.core.trajectory import End, Header, Step, Trajectory
from envfarm.core.usage import Bill

ARCHIVE_BYTES = 2 << 30
"""The largest archive that is taken from a box."""


class Sandbox(Protocol):
    """One box, behind one boxd endpoint. Every method raises `BoxLost`, `BoxBroken` or `SandboxError` when the box does not answer."""

    @property
    def box_id(self) -> BoxId:
        """The provider's name of it."""
        ...

    async def exec(self, request: ExecRequest) -> ExecResult:
        """Run a command to its end. A command that fails, is killed or times out is a result, not an error.

        With an exec id it is safe to call again after a lost connection: the command does not run twice.
        """
        ...

    async def put(self, archive: bytes, *, dest: str = "/", owner: str = "agent") -> None:
        """Unpack a tar archive at `dest`. `SandboxError` when an entry would leave `dest`, or for devices and bombs."""
        ...

    async def get(self, paths: Sequence[str], *, max_bytes: int = ARCHIVE_BYTES) -> bytes:
        """A tar archive of absolute paths, rooted at `/`; links are not followed.

        `FileNotFoundError` when one is missing, `BoxBroken` for contents of more than `max_bytes`.
        """
        ...

    async def diff(self, *, max_bytes: int = CHANGE_BYTES) -> Change:
        """What differs from the tree as it was after the last `mark`, below the roots that were given there.

        `BoxBroken` for contents of more than `max_bytes`, before any of them are taken.
        """
        ...

    async def quiesce(self) -> QuiesceReport:
        """Kill everything that is not boxd and prove it. Nothing can be run in the box until `resume`, `mark` or a `root` exec."""
        ...

    async def resume(self) -> None:
        """Let commands run again after `quiesce`. Runs nothing in the box; boxd answers it in any case, so it tells a sound box too."""
        ...

    async def close(self) -> None:
        """Remove the box and everything of it. Safe to call again; never raises for a box that is gone."""
        ...


class Box(Sandbox, Protocol):
    """What every provider of this package gives: a sandbox that remembers a starting tree, takes a change, and tells what it used."""

    async def mark(self, roots: Sequence[str], *, exclude: Sequence[str] = ()) -> None:
        """Remember the tree below `roots` (absolute) as the one that `diff` compares with."""
        ...

    async def restore(self, change: Change) -> None:
        """Make the change happen: deletions, then contents. `SandboxError` when a path would leave the box's tree."""
        ...

    async def stats(self) -> BoxStats:
        """Use so far."""
        ...


@runtime_checkable
class TellsMemoryKills(Protocol):
    """Boxes whose provider sees from outside what the kernel killed in them."""

    def memory_kills(self) -> MemoryKills:
        """The counters as they are now. Nothing is asked of the box."""
        ...


@runtime_checkable
class Interrupts(Protocol):
    """Boxes in which a command can be ended before its time."""

    async def interrupt(self, command: ExecId) -> None:
        """End the command and all that it started; its `exec` then answers. No error when it has ended. A session's shell lives on."""
        ...


class Door(Protocol):
    """A port on a box's loopback."""

    @property
    def port(self) -> int:
        """Where the box's programs find it, on 127.0.0.1."""
        ...

    async def close(self) -> None:
        """End it and every connection through it. Safe to call again; never raises for a box that is gone."""
        ...


@runtime_checkable
class Doors(Protocol):
    """Boxes whose programs can reach one service of the farm while their network is closed."""

    async def open_door(
        self,
        serve: Callable[[], asyncio.Protocol],
        *,
        connections: int = 32,
        cut_off: Callable[[float, str], None] = lambda _seconds, _why: None,
    ) -> Door:
        """Serve whatever connects to a fresh port of the box's loopback, each connection by a protocol of its own.

        The box dials nowhere: the farm's own connections to it turn round. Raises `SandboxError`. Quiescing the box closes its doors.
        While the box cannot be reached the door is kept; where nothing in the box can have caused that, `cut_off` is told again and again
        for how many seconds by now the programs were not served, and why.
        """
        ...


class ModelSession(Protocol):
    """One episode's way to its model."""

    @property
    def token(self) -> str:
        """As a bearer token or an API key."""
        ...

    def serve(self) -> asyncio.Protocol:
        """One connection's server, of this session and nothing else."""
        ...

    def cut_off(self, seconds: float, why: str) -> None:
        """The program could not reach the session for so many seconds by now, by no fault of its box: an outage, as a failed call is."""
        ...

    @property
    def outage_s(self) -> float:
        """For how long the model could not be had so far, by the farm's own account. Grows while it is away."""
        ...

    async def used_up(self) -> None:
        """Wait until no call will be answered any more: a budget is used up, or too many calls have failed."""
        ...

    async def close(self) -> Sampled:
        """End its calls; what was sampled."""
        ...


class Models(Protocol):
    """Whatever lets programs in boxes ask the policy's model."""

    def open(self, episode: EpisodeId, allowance: Allowance) -> ModelSession:
        """Raises `GatewayError` when the episode has one already, or too many are open."""
        ...


@runtime_checkable
class Program(Protocol):
    """An agent that is a program in the box: it runs as one command and asks its model itself. One instance per episode."""

    @property
    def command(self) -> str:
        """What is run, for the record."""
        ...

    @property
    def sampled(self) -> Sampled | None:
        """What its calls sampled; there once `play` has ended, however it did."""
        ...

    async def play(self, box: Box, part: Part) -> ExecResult:
        """Run it to its end, or to that of its budgets.

        Raises as `Sandbox.exec`, `GatewayError`, and `Unsupported` for a box without doors.
        """
        ...


class SandboxProvider(Protocol):
    """Makes and removes boxes; the data path is boxd's."""

    @property
    def name(self) -> str:
        """`local`, `docker`, …: recorded with what was seen in its boxes."""
        ...

    async def create(self, spec: SandboxSpec) -> Box:
        """A fresh box, checkout unpacked, boxd answering.

        Raises `ImageError` when the environment cannot be had, `SandboxError` when the box cannot be made.
        """
        ...

    async def destroy(self, box: BoxId) -> None:
        """Remove a box by its id, and all that belongs to it. No error when it is gone."""
        ...

    async def collect_left_overs(self) -> int:
        """Remove what killed makers of boxes left, whatever they had come to; how many boxes. The living's are not touched."""
        ...

    async def aclose(self) -> None:
        """Close every box that is still open."""
        ...


@runtime_checkable
class Adopts(Protocol):
    """Providers whose boxes outlive the process that made them."""

    async def adopt(self, spec: SandboxSpec, box: BoxId, *, but: Sequence[ExecId]) -> Box | None:
        """A box of the spec's episode that another process made, as it is; its holder, if it lives, is fenced by the spec's epoch.

        None where it cannot be had, and where one of the commands `but` was begun in it; then it is removed.

        Raises `SandboxError`, and `BoxBroken` for one that does not answer.
        """
        ...

    async def leave(self, box: BoxId) -> None:
        """Let go of an open box, which lives on for whoever adopts it. One that nobody adopts is left over once this provider is closed."""
        ...


@runtime_checkable
class Places(Protocol):
    """Providers whose boxes somebody else finds a place for, who does not say beforehand how many there are."""

    @property
    def places(self) -> int:
        """How many boxes there may be now, those that are there counted; more would only wait."""
        ...

    def tell_places(self, listener: Callable[[], None]) -> None:
        """Call it whenever there may be more than before."""
        ...


@runtime_checkable
class Holds(Protocol):
    """Providers that know whether an environment is still there: parts of it may be removed while a farm lives."""

    async def holds(self, environment: Environment) -> bool:
        """Whether all that its boxes are made of is on this machine; a checkout is not asked for, since boxes bring it.

        Raises `ImageError` or `SandboxError` if it cannot be told.
        """
        ...


@runtime_checkable
class Foresees(Protocol):
    """Providers that make boxes before they are asked for."""

    @property
    def ahead(self) -> int:
        """How many at the most; 0 for none."""
        ...

    def foresee(self, specs: Sequence[SandboxSpec]) -> None:
        """What will be asked for next, the soonest first, in place of what was said before. Nothing is promised by either side.

        Whose a box will be is not looked at: run, episode, deadline and epoch are the claim's.
        """
        ...


class Grader(Protocol):
    """Turns what an agent left into an outcome."""

    async def grade(
        self, task: Task, change: Change, *, environment: Environment, holder: Holder = NOBODY, bill: Bill | None = None
    ) -> Outcome:
        """Grade in fresh boxes, each the `holder`'s. Never raises for what the agent did; `Invalid` for what the infrastructure did.

        What its boxes used goes on the bill.
        """
        ...

    async def grade_in_place(self, task: Task, box: Box, change: Change, *, environment: Environment) -> Outcome:
        """The same in the agent's own box, for plans of mode `shared`. The caller closes the box."""
        ...


class ImageBuilder(Protocol):
    """Recipe → environment."""

    async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
        """Make the environment, or find it made, and say what that cost.

        Raises `ImageError` with the failing step, its status and the end of its log, `BuildOutage` when what it needs does not answer,
        `SandboxError` when boxes cannot be made.
        """
        ...


class Policy(Protocol):
    """Chooses the next action. One instance per episode."""

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
        """Decide. Raises `PolicyError` when the engine cannot be asked."""
        ...


Player = Policy | Program
"""Whoever plays an episode: asked for each action, or run as a whole."""


@runtime_checkable
class TellsOutages(Protocol):
    """Policies whose endpoint may be away for a while without their call failing."""

    @property
    def outage_s(self) -> float:
        """For how much of the call that runs, or ran last, the endpoint could not be had: tries that failed, and the waits after them.

        Grows while it waits; a try that has not ended does not count.
        """
        ...


@runtime_checkable
class Remembers(Protocol):
    """Policies that remember what they saw, and do not choose by the history alone: their episodes cannot start again under them."""

    @property
    def remembers(self) -> bool:
        """Whether it does."""
        ...


class TrajectoryStore(Protocol):
    """Trajectories, appended line by line."""

    async def append(self, episode: EpisodeId, line: Header | Step | Sampled | End) -> None:
        """Durable when it returns."""
        ...

    async def read(self, episode: EpisodeId) -> Trajectory:
        """The last attempt. Raises `StoreError` when there is none."""
        ...

    async def last(self, episode: EpisodeId) -> Trajectory | None:
        """The last attempt, or None. Raises `StoreError` for a damaged one."""
        ...


class BlobStore(Protocol):
    """Content-addressed bytes."""

    async def put(self, data: bytes) -> BlobRef:
        """Keep them; the same bytes are kept once."""
        ...

    async def get(self, digest: Digest) -> bytes:
        """Raises `StoreError` when they are missing or do not have the digest."""
        ...


class Clock(Protocol):
    """Time, handed in so that tests can hold it."""

    def now(self) -> datetime:
        """Wall time, UTC, aware."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...
