"""What processes counted, as numbers that add up: how the metrics of a farm's hosts become one page. Pure.

Sums are exact, in whatever order they are made: else what is scraped would now and then fall by a rounding error, and a counter that falls
is taken for one that began anew.
"""

import json
import math
from collections.abc import Mapping

from envfarm.core.frozen import Frozen

MOST_SERIES = 500
"""Of one metric: further ones are counted together. So a tally has a bound, however many tenants there ever were."""
OTHER = "other"
"""The value of all labels of what is counted together."""
STEP = 2.0**-10
"""Numbers are multiples of it: their sums are exact up to 8 * 10**12."""

Parts = dict[str, float]
"""Of a counter its `TOTAL`; of a histogram its `SUM`, and how many there were in each bucket that is not empty, by its upper bound."""
TOTAL, SUM = "total", "sum"


class Tally(Frozen):
    """What one process counted, or several did. Each by the metric's name, then by its labels as `labelled` writes them."""

    counts: dict[str, dict[str, Parts]] = {}
    """What only ever rises."""
    levels: dict[str, dict[str, float]] = {}
    """How high things stand in a process: processes' are added up."""
    views: dict[str, dict[str, float]] = {}
    """How high things stand in the farm, as a process saw it last: the newest stands for all."""

    def plus(self, newer: "Tally") -> "Tally":
        """Both together."""
        counts = {name: {labels: dict(parts) for labels, parts in series.items()} for name, series in self.counts.items()}
        levels = {name: dict(series) for name, series in self.levels.items()}
        for name, found in newer.counts.items():
            series = counts.setdefault(name, {})
            for labels, parts in found.items():
                into = series.setdefault(_place(series, labels), {})
                for part, amount in parts.items():
                    into[part] = into.get(part, 0.0) + amount
        for name, heights in newer.levels.items():
            level = levels.setdefault(name, {})
            for labels, height in heights.items():
                place = _place(level, labels)
                level[place] = level.get(place, 0.0) + height
        return Tally(counts=counts, levels=levels, views=self.views | newer.views)

    def since(self, before: "Tally") -> "Tally":
        """What the same process counted since an earlier tally of it."""
        counts: dict[str, dict[str, Parts]] = {}
        for name, series in self.counts.items():
            for labels, parts in series.items():
                old = before.counts.get(name, {}).get(labels, {})
                risen = {part: more for part, amount in parts.items() if (more := amount - old.get(part, 0.0))}
                if risen:
                    counts.setdefault(name, {})[labels] = risen
        return self.model_copy(update={"counts": counts})

    @property
    def ended(self) -> "Tally":
        """What stays of processes that are gone."""
        return Tally(counts=self.counts)


NOTHING = Tally()


def labelled(labels: Mapping[str, str]) -> str:
    """Labels as a key."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))


def labels_of(key: str) -> dict[str, str]:
    """The labels that a key was made of."""
    found: dict[str, str] = json.loads(key)
    return found


def in_steps(amount: float) -> float:
    """The largest multiple of `STEP` that is no more than this."""
    return math.floor(amount / STEP) * STEP


def _place(series: Mapping[str, object], labels: str) -> str:
    if labels in series or len(series) < MOST_SERIES:
        return labels
    return labelled(dict.fromkeys(labels_of(labels), OTHER))
