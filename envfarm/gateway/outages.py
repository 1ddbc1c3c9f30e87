"""For how long an episode's engines could not be had, by the gateway's own account. Pure: the time is handed in.

One per session. What counts is a call that failed by the engine or the gateway, from its beginning to its end (or a time in which the farm
could not reach the box), and the wait behind it until the agent asks again, of which no more counts than an agent has reason to wait: one
that then does something else has no outage.
"""

LONGEST_WAIT_S = 30.0
"""The usual clients ask again within 8 s, a patient one doubles that twice."""


class Outages:
    """One episode's."""

    def __init__(self) -> None:
        self._whole_s = 0.0
        self._counted_until = 0.0
        self._waits_since: float | None = None

    def asked(self, now_s: float) -> None:
        """The agent asks: it waits no longer."""
        self._whole_s, self._waits_since = self.seconds(now_s), None
        self._counted_until = max(self._counted_until, now_s)

    def failed(self, began_s: float, now_s: float, *, alone: bool) -> None:
        """A call came to nothing. Of several at once no second counts twice; only behind the last one (`alone`) does the agent wait."""
        self._whole_s += max(now_s - max(began_s, self._counted_until), 0.0)
        self._counted_until = now_s
        self._waits_since = now_s if alone else None

    def seconds(self, now_s: float) -> float:
        """All of it. Grows while the agent waits; a call that has not failed yet does not count."""
        waited_s = 0.0 if self._waits_since is None else min(now_s - self._waits_since, LONGEST_WAIT_S)
        return self._whole_s + waited_s
