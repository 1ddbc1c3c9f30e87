"""What episodes cost: vCPU seconds, GiB seconds, bytes. For bills and for finding waste; never for rewards.

A `Bill` is written while an attempt runs, by whoever makes and removes its boxes (the runner and the grader); its sum is kept per
attempt, and added up per episode, rollout and tenant.
"""

from typing import Literal

from pydantic import Field

from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, RunId, TenantId
from envfarm.core.sandbox import BoxStats, SandboxSpec

GIB = float(1 << 30)


class Usage(Frozen):
    """What some boxes had and used. Sums of it are sums of every field."""

    boxes: int = 0
    unmeasured: int = 0
    """Boxes among them that could not be asked at their end: what they used is not known, and counts as 0."""
    box_s: float = 0.0
    """Seconds that boxes existed, from the moment they were asked for to their removal."""
    cpu_used_s: float = 0.0
    cpu_granted_s: float = 0.0
    """vCPU seconds. Granted: the limit times the time."""
    memory_granted_gib_s: float = 0.0
    memory_peak_gib_s: float = 0.0
    """GiB seconds. Peak: as if the box had held its highest use all the time, which is the most that it can have used."""
    pulled_bytes: int = 0
    """Of checkouts that boxes were given, and of images where the box's maker tells."""

    @property
    def idle_share(self) -> float | None:
        """The part of the granted vCPU seconds that was not used; None where none were granted."""
        return None if self.cpu_granted_s <= 0 else 1.0 - min(self.cpu_used_s / self.cpu_granted_s, 1.0)

    def plus(self, other: "Usage") -> "Usage":
        """Both together."""
        mine, theirs = self.model_dump(), other.model_dump()
        return Usage(**{name: value + theirs[name] for name, value in mine.items()})


class Grant(Frozen):
    """What an attempt's box is granted, as far as it is known before there is one."""

    cpus: float = 0.0
    memory_mib: float = 0.0


UsageBy = Literal["tenant", "rollout", "episode"]
LATEST_S = 1e11
"""Seconds since 1970: behind every time that is asked for."""


class UsageQuery(Frozen):
    """Whose use: a line per tenant, rollout or episode, of the attempts that ended in a window."""

    by: UsageBy = "rollout"
    since: float = Field(default=0.0, ge=0, lt=LATEST_S)
    until: float | None = Field(default=None, ge=0, lt=LATEST_S)
    """Seconds since 1970: attempts that ended from the one on, and before the other."""
    rollout: str = Field(default="", max_length=200)
    everyone: bool = False
    """Of all tenants: wants the scope `admin`."""


class UsageLine(Frozen):
    """What the attempts of one tenant, rollout or episode used, of those that ended in the window that was asked for."""

    tenant: TenantId
    rollout: RunId | None = None
    """Null in lines per tenant."""
    episode: EpisodeId | None = None
    """Null in lines per tenant and per rollout."""
    attempts: int
    estimated: int
    """Attempts among them whose host died: of these the agent's box counts as granted until the host's lease ended, and nothing as used."""
    usage: Usage
    idle_share: float | None
    """The part of the granted vCPU seconds that was not used; null where none were granted."""


class UsagePage(Frozen):
    """Some lines, in the order of their names."""

    items: tuple[UsageLine, ...]
    next: str | None = None
    """The cursor of the next page; null at the end."""


def of_box(spec: SandboxSpec, seconds: float, stats: BoxStats | None, *, adopted: BoxStats | None = None) -> Usage:
    """One box's. What a box says of itself is believed up to what it was granted: a bill must not be what its payer makes of it.

    What it had used when it was `adopted` is on the bill of whoever had it before, as are the box and its checkout.
    """
    granted_s = spec.cpus * seconds
    memory_gib = spec.memory_mib / 1024
    said = stats or BoxStats()
    checkout = spec.environment.checkout
    return Usage(
        boxes=int(adopted is None),
        unmeasured=int(stats is None),
        box_s=seconds,
        cpu_used_s=min(max(said.cpu_s - (adopted or BoxStats()).cpu_s, 0.0), granted_s),
        cpu_granted_s=granted_s,
        memory_granted_gib_s=memory_gib * seconds,
        memory_peak_gib_s=min(max(said.memory_peak_bytes, 0) / GIB, memory_gib) * seconds,
        pulled_bytes=checkout.size_bytes if checkout is not None and adopted is None else 0,
    )


class Bill:
    """One attempt's boxes, added up as they go away."""

    def __init__(self) -> None:
        self.total = Usage()

    def add(self, usage: Usage) -> None:
        """One more box."""
        self.total = self.total.plus(usage)
