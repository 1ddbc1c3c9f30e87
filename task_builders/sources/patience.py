"""Waiting between attempts, with a clock that tests replace. Used by the sources that speak over a network.

Bounded everywhere: a source that cannot be had ends as an error with a hint, never as an endless loop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from task_builders.sources.clone import Progress, silent


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and how waiting is done."""

    now: Callable[[], float] = time.time
    """Seconds since 1970."""
    sleep: Callable[[float], None] = time.sleep
    """Seconds."""
    progress: Progress = field(default=silent)
    attempts: int = 6
    """Of one request, the first included."""
    first_wait_s: float = 1.0
    """Doubles with each further attempt."""
    longest_wait_s: float = 3700.0
    """A rate limit's window is an hour; whoever asks for more is not waited for."""

    def wait(self, seconds: float, why: str) -> None:
        """Wait, and say so."""
        self.progress(f"{why}: waiting {max(1, round(seconds))} s")
        self.sleep(seconds)

    def backoff_s(self, failed_attempts: int) -> float:
        """How long to wait after that many failures: 1, 2, 4, … seconds, at most a minute."""
        return min(60.0, self.first_wait_s * 2.0 ** (failed_attempts - 1))
