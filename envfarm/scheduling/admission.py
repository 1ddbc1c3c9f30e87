"""Decides which waiting episodes may start now, from memory, disk, cores, tenants' quotas and the capacity of policies' endpoints. Pure.

Tenants are served by deficit round robin over shares of the scarcest resource, and within a tenant its policies by round robin. If an
episode does not fit yet, the decision waits for it, so that smaller ones cannot overtake it forever.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId


class Amount(Frozen):
    """Resources of a machine: all that it has, what is left, or what an episode needs."""

    memory_mib: float
    disk_mib: float
    cores: float
    episodes: int = 1

    def minus(self, need: "Amount", times: int = 1) -> "Amount":
        """What is left after `times` needs are subtracted."""
        return Amount(
            memory_mib=self.memory_mib - need.memory_mib * times,
            disk_mib=self.disk_mib - need.disk_mib * times,
            cores=self.cores - need.cores * times,
            episodes=self.episodes - need.episodes * times,
        )

    def lacks(self, need: "Amount") -> str:
        """The first resource that does not suffice; empty if all do."""
        for name in ("episodes", "memory_mib", "disk_mib", "cores"):
            if getattr(need, name) > getattr(self, name):
                return name
        return ""

    def share(self, need: "Amount") -> float:
        """The largest fraction of any resource that the need takes."""
        return max(
            float(getattr(need, name)) / max(float(getattr(self, name)), 1e-9) for name in ("episodes", "memory_mib", "disk_mib", "cores")
        )


class Candidate(Frozen):
    """A waiting episode."""

    episode: EpisodeId
    tenant: str
    policy: str
    need: Amount


class Turn(Frozen):
    """The state of the round robin, to be passed to the next decision."""

    deficits: dict[str, float] = {}
    tenant: str = ""
    """The tenant whose turn it is."""
    begun: bool = False
    """Whether this turn's quantum has been added."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many more episodes each may have; those not listed are unbounded."""

    tenants: Mapping[str, int] = field(default_factory=dict)
    policies: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By tenant and policy, from the load on the policy's endpoint."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision."""

    granted: tuple[EpisodeId, ...]
    turn: Turn
    held: Mapping[EpisodeId, str]
    """Why others, of those considered, were not granted."""
    too_large: tuple[EpisodeId, ...]
    """These need more than the whole machine has. They hold up nothing here."""


def admit(candidates: Sequence[Candidate], whole: Amount, left: Amount, bounds: Bounds, turn: Turn) -> Admission:
    """Decide. Candidates come oldest first for each tenant and policy; `left` is the free part of `whole`."""
    too_large = tuple(c.episode for c in candidates if whole.lacks(c.need))
    decision = _Decision(whole, left, bounds)
    queues = _queues([c for c in candidates if c.episode not in set(too_large)])
    quantum = max((whole.share(c.need) for queue in queues.values() for c in queue), default=0.0)
    deficits = {tenant: turn.deficits.get(tenant, 0.0) for tenant in queues}
    order = deque(sorted(queues, key=lambda tenant: (tenant < turn.tenant, tenant)))
    begun = turn.begun and bool(order) and order[0] == turn.tenant
    while order:
        tenant = order[0]
        if not begun:
            deficits[tenant] += quantum
        begun = False
        deficits[tenant], full = decision.serve(queues[tenant], deficits[tenant])
        if full:
            return decision.told(Turn(deficits=deficits, tenant=tenant, begun=True), too_large)
        order.popleft()
        if queues[tenant]:
            order.append(tenant)
        else:
            del deficits[tenant]  # a tenant with nothing waiting keeps no deficit
    return decision.told(Turn(deficits=deficits, tenant=turn.tenant), too_large)


class _Decision:
    """The decision in progress."""

    def __init__(self, whole: Amount, left: Amount, bounds: Bounds) -> None:
        self._whole = whole
        self._left = left
        self._tenants = dict(bounds.tenants)
        self._policies = dict(bounds.policies)
        self._granted: list[EpisodeId] = []
        self._held: dict[EpisodeId, str] = {}

    def serve(self, queue: deque[Candidate], deficit: float) -> tuple[float, bool]:
        """Serve one tenant's turn. Returns its remaining deficit, and whether the machine is full."""
        while queue:
            head = queue[0]
            flow = (head.tenant, head.policy)
            if self._tenants.get(head.tenant, 1) <= 0 or self._policies.get(flow, 1) <= 0:
                self._held[head.episode] = "quota" if self._tenants.get(head.tenant, 1) <= 0 else "policy"
                queue.popleft()
                continue
            cost = self._whole.share(head.need)
            if cost > deficit + 1e-12:
                return deficit, False
            if lacks := self._left.lacks(head.need):
                self._held[head.episode] = lacks
                return deficit, True
            self._left = self._left.minus(head.need)
            self._count(head)
            deficit -= cost
            self._granted.append(head.episode)
            queue.popleft()
        return deficit, False

    def told(self, turn: Turn, too_large: tuple[EpisodeId, ...]) -> Admission:
        """The complete decision."""
        return Admission(tuple(self._granted), turn, self._held, too_large)

    def _count(self, head: Candidate) -> None:
        if head.tenant in self._tenants:
            self._tenants[head.tenant] -= 1
        if (head.tenant, head.policy) in self._policies:
            self._policies[head.tenant, head.policy] -= 1


def _queues(candidates: Sequence[Candidate]) -> dict[str, deque[Candidate]]:
    """One queue per tenant, in which its policies alternate."""
    flows: dict[str, dict[str, list[Candidate]]] = {}
    for c in candidates:
        flows.setdefault(c.tenant, {}).setdefault(c.policy, []).append(c)
    queues: dict[str, deque[Candidate]] = {}
    for tenant, policies in flows.items():
        longest = max(map(len, policies.values()))
        queues[tenant] = deque(flow[n] for n in range(longest) for flow in policies.values() if n < len(flow))
    return queues


class Pressure(Frozen):
    """How many concurrent episodes a policy's endpoint can serve, learned from results (additive increase, multiplicative decrease)."""

    limit: float
    most: float

    def after(self, *, failed: bool) -> "Pressure":
        """The estimate after one more episode."""
        limit = max(self.limit / 2, 1.0) if failed else min(self.limit + 1 / self.limit, self.most)
        return self.model_copy(update={"limit": limit})
