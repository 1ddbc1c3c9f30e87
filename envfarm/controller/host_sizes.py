"""What is too large for a host: left to larger ones while there are any, and refused, with both figures, after a while without one.

Used by a host, which tells the others what it has with its lease and reads what they have at each beat.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import TypeAdapter

from envfarm.core.errors import StoreError, boundary
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, TaskDigest
from envfarm.scheduling.admission import Amount
from envfarm.stores.rollout_queue import Share, Waiting
from envfarm.stores.sql import CHUNK


class Offer(Frozen):
    """What a host tells the others of itself, beside its lease."""

    capacity: Amount
    share: Share

    def meets(self, wanted: "Wanted") -> bool:
        """Whether it could play that, if it played nothing else."""
        return self.share.takes(wanted.player) and not self.capacity.lacks(wanted.need)


OFFER = TypeAdapter(Offer)


class Wanted(NamedTuple):
    """What an episode needs of a host."""

    player: str
    """The policy that plays it."""
    need: Amount


class HostSizes:
    """What one host knows of its own size and of the others'."""

    def __init__(self, own: Offer, *, patience_s: float, beat_s: float) -> None:
        self.own = own
        self.left_alone: set[TaskDigest] = set()
        """Too large for this host, as seen since the last beat: what waits behind them is looked at instead."""
        self._patience_s = patience_s
        self._beat_s = beat_s
        self._offers: Sequence[Offer] = ()
        """Of all hosts that live, as of the last beat."""
        self._unmet: dict[Wanted, int] = {}
        """For so many beats in a row no host could play what is too large for this one."""

    @property
    def hosts(self) -> int:
        """How many there are."""
        return len(self._offers)

    @property
    def alike(self) -> int:
        """How many play the same share; 0 before the first beat."""
        return sum(offer.share == self.own.share for offer in self._offers)

    def heard(self, told: Sequence[str]) -> None:
        """What all hosts offer, at a beat. Raises `StoreError`."""
        with boundary(StoreError, "what the hosts offer"):
            self._offers = [OFFER.validate_json(offer, extra="ignore") for offer in told]  # a newer host may tell more
        self._unmet = {one: beats + 1 for one, beats in self._unmet.items() if not any(offer.meets(one) for offer in self._offers)}
        self.left_alone.clear()

    def refused(self, too_large: Sequence[Waiting], needs: Mapping[EpisodeId, Amount]) -> dict[EpisodeId, str]:
        """Of what is too large for this host: what was so for every host for too long, and why. The rest is left alone for a beat."""
        refused: dict[EpisodeId, str] = {}
        for one in too_large:
            wanted = Wanted(one.player, needs[one.episode])
            if self._unmet.setdefault(wanted, 0) * self._beat_s > self._patience_s:
                refused[one.episode] = self._what_lacks(wanted)
            elif len(self.left_alone) < CHUNK:
                self.left_alone.add(one.task)
        return refused

    def _what_lacks(self, wanted: Wanted) -> str:
        need, able = wanted.need, [offer.capacity for offer in self._offers if offer.share.takes(wanted.player)]
        largest = min(able, key=lambda capacity: capacity.share(need), default=self.own.capacity)
        lacks = largest.lacks(need)
        return f"needs more than this farm has: {lacks}={getattr(need, lacks):g}, of which its largest host has {getattr(largest, lacks):g}"
