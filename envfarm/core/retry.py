"""How long to wait before the next try. Pure."""

import random
from email.utils import parsedate_to_datetime


def backoff_s(
    failures: int, *, first_s: float, longest_s: float, told_s: float | None = None, jitter: random.Random | None = None
) -> float:
    """Seconds before the next try after so many failures in a row (1 is the first): doubled from the first wait to the longest.

    What a server asks for (`told_s`) is obeyed instead, up to the longest. `jitter` spreads the waits of many that failed together, between
    half of a wait and all of it.
    """
    if told_s is not None:
        return min(told_s, longest_s)
    wait_s = min(first_s * 2.0 ** min(failures - 1, 60), longest_s)
    return wait_s if jitter is None else wait_s * jitter.uniform(0.5, 1.0)


def retry_after_s(told: str | None, date: str | None) -> float | None:
    """A `Retry-After` in seconds; None where there is none, or none that can be read. A date counts from the answer's own `Date`."""
    told = (told or "").strip()
    if told.isdecimal():
        return float(told)
    try:
        return max((parsedate_to_datetime(told) - parsedate_to_datetime(date or "")).total_seconds(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
