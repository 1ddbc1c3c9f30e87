"""Which engine an episode's calls go to: always the one that holds its prefixes, as long as it can.

Decisions without I/O; the time is handed in. The list can be set anew at any time. An episode is moved only when its engine is no longer
listed or has failed, and does not move back: its prefixes are then where it is.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envfarm.core.errors import PolicyError
from envfarm.core.ids import EpisodeId
from envfarm.core.retry import backoff_s
from envfarm.gateway.engines.engine import Engine

FIRST_REST_S = 5.0
LONGEST_REST_S = 120.0


@dataclass(slots=True)
class _Seat:
    engine: Engine
    failures: int = 0
    rests_until: float = 0.0


class Routing:
    """The engines and who sits where."""

    def __init__(self, engines: Iterable[Engine] = ()) -> None:
        self._seats: dict[str, _Seat] = {}
        self._homes: dict[EpisodeId, str] = {}
        self.set(engines)

    @property
    def engines(self) -> tuple[Engine, ...]:
        """All that are listed."""
        return tuple(seat.engine for seat in self._seats.values())

    def set(self, engines: Iterable[Engine]) -> None:
        """The new list. Engines keep their health and their episodes by their names; calls that run go on."""
        old = self._seats
        self._seats = {}
        for engine in engines:
            seat = _Seat(engine)
            if (known := old.get(engine.spec.name)) is not None and known.engine.spec.url == engine.spec.url:
                seat.failures, seat.rests_until = known.failures, known.rests_until
            self._seats[engine.spec.name] = seat

    def choose(self, episode: EpisodeId, now_s: float, *, without: Sequence[str] = ()) -> Engine:
        """The episode's engine; another one where that is gone, rests after failures, or is in `without`.

        Raises `PolicyError` when none is left.
        """
        able = {name: seat for name, seat in self._seats.items() if name not in without}
        awake = {name: seat for name, seat in able.items() if seat.rests_until <= now_s}
        home = self._homes.get(episode)
        if home not in awake:
            # Where all of them rest, the one that should hold the episode is tried: resting protects engines, it does not end episodes.
            places = awake or able
            if not places:
                raise PolicyError("no engine is left to ask" if self._seats else "no engine is listed")
            home = max(places, key=lambda name: _weight(episode, name))
            self._homes[episode] = home
        return self._seats[home].engine

    def succeeded(self, engine: Engine) -> None:
        """A call came to its end."""
        if (seat := self._seats.get(engine.spec.name)) is not None:
            seat.failures, seat.rests_until = 0, 0.0

    def failed(self, engine: Engine, now_s: float) -> None:
        """A call failed by the engine's fault: it rests, longer each time."""
        if (seat := self._seats.get(engine.spec.name)) is not None:
            seat.failures += 1
            seat.rests_until = now_s + backoff_s(seat.failures, first_s=FIRST_REST_S, longest_s=LONGEST_REST_S)

    def forget(self, episode: EpisodeId) -> None:
        """The episode is over."""
        self._homes.pop(episode, None)

    def resting(self, now_s: float) -> frozenset[str]:
        """Engines that are not asked for the moment."""
        return frozenset(name for name, seat in self._seats.items() if seat.rests_until > now_s)


def _weight(episode: EpisodeId, name: str) -> bytes:
    """Rendezvous hashing: each engine draws a number for the episode, the highest holds it; a new engine takes an equal share of each."""
    return hashlib.sha256(f"{episode}\0{name}".encode()).digest()
