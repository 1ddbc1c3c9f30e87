"""One call under way: sampled once, however many requests wait for it and however often their connections break.

The session flies it; the web application's requests follow it. It knows no engine and no dialect.
"""

import asyncio
from collections import OrderedDict

from envfarm.gateway.dialects.dialect import Answered, Head
from envfarm.gateway.replies import Part


class Flight:
    """What is known of a call by now. It does not hold the request, since answers are kept for long and requests are large."""

    def __init__(self, *, dialect: str, number: int) -> None:
        self.dialect = dialect
        self.asked_s: float | None = None
        """When an engine was first asked for it, by the clock that is never set: what came before is the episode's own time."""
        self.number = number
        """Its place among the session's calls, in the order of their beginnings."""
        self.head: Head | None = None
        self.parts: list[Part] = []
        """A list that only grows; another one, of whole blocks, once the answer is."""
        self.answered: Answered | None = None
        self.call: int | None = None
        """Its place in the forest, once it is answered."""
        self.failure: Exception | None = None
        self._news = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.answered is not None or self.failure is not None

    def began(self, head: Head) -> None:
        """The prompt is made."""
        self.head = head

    def told(self, parts: list[Part]) -> None:
        """More of the answer is known."""
        if parts:
            self.parts += parts
            self._tell()

    def ended(self, answered: Answered) -> None:
        """The answer is whole, and kept: as few parts, since a part of each token is many times its text."""
        self.answered = answered
        self.parts = list(answered.parts)
        self._tell()

    def failed(self, failure: Exception) -> None:
        """There is no answer."""
        self.failure = failure
        self._tell()

    async def more(self, seen: int) -> None:
        """Wait until more than `seen` parts are known, or the call is over."""
        while len(self.parts) <= seen and not self.over:
            await self._news.wait()

    async def whole(self) -> Answered:
        """Wait for the answer. Raises what the call failed with."""
        while self.answered is None:
            if self.failure is not None:
                raise self.failure
            await self._news.wait()
        return self.answered

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Flights:
    """A session's calls by their requests' digests: all that run, and the last few that came to an answer."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._running: dict[bytes, Flight] = {}
        self._answered: OrderedDict[bytes, Flight] = OrderedDict()

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    def find(self, request: bytes) -> Flight | None:
        """The call of an equal request."""
        return self._running.get(request) or self._answered.get(request)

    def started(self, request: bytes, flight: Flight) -> None:
        """A call runs."""
        self._running[request] = flight

    def landed(self, request: bytes, flight: Flight) -> None:
        """A call is over. Those that failed are forgotten, so that they can be tried again."""
        if self._running.get(request) is flight:
            del self._running[request]
        if flight.answered is not None:
            self._answered[request] = flight
            self._answered.move_to_end(request)
            while len(self._answered) > self._kept:
                self._answered.popitem(last=False)

    def abandon(self, failure: Exception) -> None:
        """No call that runs comes to an answer."""
        for flight in self._running.values():
            flight.failed(failure)
        self._running.clear()
