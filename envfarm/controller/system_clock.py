"""The machine's clock, for whoever wires a farm. Tests hold one from `envfarm.testing` instead."""

import time
from datetime import UTC, datetime


class SystemClock:
    """Real time."""

    def now(self) -> datetime:
        """Wall time, UTC."""
        return datetime.now(tz=UTC)

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()
