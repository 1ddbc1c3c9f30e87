"""Samples, and rows of the table that the bench prints. Pure; used by every section."""

import math
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

Sampler = Callable[[int], Awaitable[Sequence[float]]]
"""Measures so many times, and returns milliseconds."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: something of ours, and what it is measured beside."""

    what: str
    unit: str
    values: Sequence[float] = ()
    beside: str = ""
    """The floor or the peer, with its version; or why there is none."""
    others: Sequence[float] = ()
    more_is_better: bool = False
    target: str = ""

    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        ours, theirs = _median(self.values), _median(self.others)
        ratio = ours / theirs if ours is not None and theirs else None
        return (
            self.what,
            _number(ours),
            self._slow_end(self.values),
            str(len(self.values)),
            self.unit,
            self.beside,
            _number(theirs),
            self._slow_end(self.others),
            _ratio(ratio, more_is_better=self.more_is_better),
            self.target,
        )

    def _slow_end(self, values: Sequence[float]) -> str:
        return _number(quantile(values, 0.01 if self.more_is_better else 0.99)) if len(values) > 1 else "–"


COLUMNS = ("what", "p50", "p99", "n", "unit", "beside", "its p50", "its p99", "ratio", "target")


@dataclass(slots=True)
class Clock:
    """Collects the milliseconds of what is run in it."""

    taken: list[float] = field(default_factory=list)
    _began: float = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.taken.append((time.perf_counter() - self._began) * 1e3)


async def interleaved(samplers: Mapping[str, Sampler], *, rounds: int, each: int) -> dict[str, list[float]]:
    """Every sampler in turn, so that what else the machine does falls on all of them. The first round warms up and is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in samplers}
    for number in range(rounds + 1):
        for name, sample in samplers.items():
            values = await sample(each)
            if number:
                taken[name] += values
    return taken


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of the others do not exceed; None without any."""
    if not values:
        return None
    return sorted(values)[min(len(values) - 1, max(0, math.ceil(share * len(values)) - 1))]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _ratio(ratio: float | None, *, more_is_better: bool) -> str:
    if not ratio:
        return "–"
    better = ratio > 1 if more_is_better else ratio < 1
    factor = max(ratio, 1 / ratio)
    return f"{factor:.1f} x {'better' if better else 'its'}"
