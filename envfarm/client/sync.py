"""The client for ordinary code. Safe to share between threads."""

import time
from collections.abc import Iterator
from typing import Self, TypeVar

from envfarm.client.calls import EventFeed
from envfarm.client.exchange import Answer, Call, RetryPolicy, Send, ServerProblem, exchange, wait_s
from envfarm.client.methods import Methods
from envfarm.client.transport import Abort, Transport
from envfarm.core.rollout import RolloutEvent

T = TypeVar("T")


class Client(Methods):
    """A farm at an address. `close` it, or use it as a context."""

    def __init__(self, url: str, token: str, *, retry: RetryPolicy | None = None) -> None:
        self._retry = retry or RetryPolicy()
        self._transport = Transport(url, token, timeout_s=self._retry.timeout_s)

    def __enter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of connections."""
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    def events(self, rollout: str, *, after: int = 0) -> Iterator[RolloutEvent]:
        """What happens to a rollout until it is over, each event once and in order, over as many connections as it takes."""
        feed, failed = EventFeed(rollout, after), 0
        while not feed.over:
            try:
                for line in self._transport.lines(feed.call(), Abort()):
                    if (event := feed.line(line)) is not None:
                        failed = 0
                        yield event
            except OSError as e:
                if (failed := failed + 1) >= self._retry.tries:
                    raise ServerProblem(f"the events of {rollout} cannot be had: {e}") from e
                feed.broken()
                time.sleep(wait_s(self._retry, failed))
            else:
                failed = 0
                feed.ended()

    def _do(self, call: Call[T]) -> T:
        doing = exchange(call, self._retry)
        answer: Answer | OSError | None = None
        while True:
            try:
                wanted = doing.send(answer)
            except StopIteration as e:
                result: T = e.value
                return result
            if isinstance(wanted, Send):
                answer = self._transport.send(wanted.call)
            else:
                time.sleep(wanted.seconds)
                answer = None
