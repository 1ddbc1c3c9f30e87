"""The client for asyncio. Calls are made in threads of its own, as many as may be open at once; a cancelled one is ended at once."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

from envfarm.client.async_methods import AsyncMethods
from envfarm.client.calls import EventFeed
from envfarm.client.exchange import Answer, Call, RetryPolicy, Send, ServerProblem, exchange, wait_s
from envfarm.client.transport import Abort, Transport
from envfarm.core.rollout import RolloutEvent

T = TypeVar("T")


class AsyncClient(AsyncMethods):
    """A farm at an address, for one event loop. `aclose` it, or use it as a context."""

    def __init__(self, url: str, token: str, *, retry: RetryPolicy | None = None, at_once: int = 64) -> None:
        self._retry = retry or RetryPolicy()
        self._transport = Transport(url, token, timeout_s=self._retry.timeout_s)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="envfarm-client")

    async def __aenter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of connections and threads."""
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of connections and threads."""
        self._transport.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def events(self, rollout: str, *, after: int = 0) -> AsyncIterator[RolloutEvent]:
        """What happens to a rollout until it is over, each event once and in order, over as many connections as it takes."""
        feed, failed = EventFeed(rollout, after), 0
        while not feed.over:
            abort = Abort()
            lines = self._transport.lines(feed.call(), abort)
            try:
                while (line := await self._in_thread(lambda lines=lines: _next(lines), abort)) is not None:  # type: ignore[misc]
                    if (event := feed.line(line)) is not None:
                        failed = 0
                        yield event
            except OSError as e:
                if (failed := failed + 1) >= self._retry.tries:
                    raise ServerProblem(f"the events of {rollout} cannot be had: {e}") from e
                feed.broken()
                await asyncio.sleep(wait_s(self._retry, failed))
            else:
                failed = 0
                feed.ended()
            finally:
                abort.now()
                lines.close()

    async def _do(self, call: Call[T]) -> T:
        doing = exchange(call, self._retry)
        answer: Answer | OSError | None = None
        while True:
            try:
                wanted = doing.send(answer)
            except StopIteration as e:
                result: T = e.value
                return result
            if isinstance(wanted, Send):
                abort, asked = Abort(), wanted.call
                answer = await self._in_thread(lambda: self._transport.send(asked, abort), abort)  # noqa: B023 - it is awaited here
            else:
                await asyncio.sleep(wanted.seconds)
                answer = None

    async def _in_thread(self, work: Callable[[], T], abort: Abort) -> T:
        doing = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            abort.now()
            await asyncio.wait({doing})
            raise


def _next(lines: Iterator[str]) -> str | None:
    return next(lines, None)
