"""Decides how many hosts there should be, from the waiting and running episodes. Pure.

The number rises at once, since waiting costs trainers' time. It falls only after a calm period, to the peak of that period, since a short
gap between two rollouts is no calm.
"""

import math

from pydantic import Field, model_validator

from envfarm.core.frozen import Frozen


class Scale(Frozen):
    """The bounds of the number of hosts, and the delay before it falls."""

    least: int = Field(ge=0)
    most: int = Field(ge=0)
    per_host: int = Field(gt=0)
    """Concurrent episodes of one host."""
    calm_s: float = Field(default=120.0, ge=0)
    """How long (s) fewer hosts must have sufficed before their number falls."""

    @model_validator(mode="after")
    def _in_order(self) -> "Scale":
        if self.least > self.most:
            raise ValueError(f"the least number of hosts, {self.least}, exceeds the most, {self.most}")
        return self


class Calm(Frozen):
    """Since when fewer hosts suffice, and the peak need since then. To be passed to the next decision."""

    since_s: float
    peak: int


class HostCount(Frozen):
    """The decision."""

    wanted: int
    calm: Calm | None = None


def host_count(episodes: int, hosts: int, scale: Scale, *, calm: Calm | None, now_s: float) -> HostCount:
    """Decide for this number of waiting or running `episodes` and of existing `hosts`. `now_s` is a monotonic time."""
    enough = min(max(math.ceil(episodes / scale.per_host), scale.least), scale.most)
    present = min(max(hosts, scale.least), scale.most)
    if enough >= present:
        return HostCount(wanted=enough)
    calm = Calm(since_s=now_s, peak=enough) if calm is None else calm.model_copy(update={"peak": max(calm.peak, enough)})
    if now_s - calm.since_s < scale.calm_s:
        return HostCount(wanted=present, calm=calm)
    return HostCount(wanted=calm.peak)
