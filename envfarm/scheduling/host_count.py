"""How many hosts there should be: one pure decision over what waits and what is played. Called by the driver of hosts.

Up at once, since what waits costs trainers' time; down only after a calm, and then to the most that the calm has seen, since an empty
moment between two rollouts is none.
"""

import math

from pydantic import Field, model_validator

from envfarm.core.frozen import Frozen


class Scale(Frozen):
    """Between what, and how fast."""

    least: int = Field(ge=0)
    most: int = Field(ge=0)
    per_host: int = Field(gt=0)
    """Episodes that one host plays at once."""
    calm_s: float = Field(default=120.0, ge=0)
    """How long fewer must have sufficed before there are fewer."""

    @model_validator(mode="after")
    def _in_order(self) -> "Scale":
        if self.least > self.most:
            raise ValueError(f"at least {self.least} hosts, and at most {self.most}")
        return self


class Calm(Frozen):
    """Since when fewer would suffice, and how many at the busiest moment since. Handed back into the next decision."""

    since_s: float
    peak: int


class HostCount(Frozen):
    """The decision."""

    wanted: int
    calm: Calm | None = None


def host_count(episodes: int, hosts: int, scale: Scale, *, calm: Calm | None, now_s: float) -> HostCount:
    """Decide for so many episodes that wait or are played, and so many hosts that there are; `now_s` by a clock that never goes back."""
    enough = min(max(math.ceil(episodes / scale.per_host), scale.least), scale.most)
    present = min(max(hosts, scale.least), scale.most)
    if enough >= present:
        return HostCount(wanted=enough)
    calm = Calm(since_s=now_s, peak=enough) if calm is None else calm.model_copy(update={"peak": max(calm.peak, enough)})
    if now_s - calm.since_s < scale.calm_s:
        return HostCount(wanted=present, calm=calm)
    return HostCount(wanted=calm.peak)
