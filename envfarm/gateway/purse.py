"""What an episode may still spend on its model: calls and completion tokens, with what is spent and what is only held kept apart.

One per session. A call takes its longest before it is sampled, so that calls at once never go beyond a budget together, and gives back
what it did not need. Where only other calls' holdings stand in its way it waits for them: nothing of the episode is used up by that.
"""

import asyncio

from envfarm.gateway.problems import Refused


class Purse:
    """One episode's."""

    def __init__(self, calls: int, tokens: int | None) -> None:
        """`tokens` is None where they are not counted."""
        self._calls = calls
        self._tokens = tokens
        self._held_calls = 0
        self._held_tokens = 0
        self.spent_calls = 0
        self.spent_tokens = 0
        self._turn = asyncio.Lock()
        self._returned = asyncio.Event()

    def check(self) -> None:
        """Raises `Refused` where a budget is used up, by calls that are over."""
        if self.spent_calls >= self._calls:
            raise Refused("budget", f"the episode has made the {self._calls} calls that it may", used_up="turns")
        if self._tokens is not None and self.spent_tokens >= self._tokens:
            raise Refused("budget", f"the episode's {self._tokens} tokens are used up", used_up="tokens")

    async def take(self, tokens: int) -> int:
        """Hold a call and so many tokens, or as many as are left; how many. Waits in turn while others hold them. Raises as `check`."""
        async with self._turn:
            while True:
                self.check()
                taken = tokens if self._tokens is None else min(tokens, self._tokens - self.spent_tokens)
                if self._has(taken):
                    self._held_calls += 1
                    self._held_tokens += taken
                    return taken
                self._returned.clear()
                await self._returned.wait()

    def settle(self, taken: int, sampled: int | None) -> None:
        """The call that took so many is over. It counts, with what it sampled; not where that is None: it came to nothing."""
        self._held_calls -= 1
        self._held_tokens -= taken
        if sampled is not None:
            self.spend(sampled)
        self._returned.set()

    def spend(self, tokens: int = 0) -> None:
        """A call counts."""
        self.spent_calls += 1
        self.spent_tokens += tokens

    def _has(self, tokens: int) -> bool:
        if self.spent_calls + self._held_calls >= self._calls:
            return False
        return self._tokens is None or self.spent_tokens + self._held_tokens + tokens <= self._tokens
