"""Fault points that do harm: one that fails, and one that kills its own process."""

import os
import signal

from envfarm.core.faults import FaultPoint


class FailAt:
    """Raises an error at every reach of one point."""

    def __init__(self, point: FaultPoint, error: Exception) -> None:
        self._point = point
        self._error = error

    def reach(self, point: FaultPoint) -> None:
        """Called just before the point's effect. Raises the error."""
        if point == self._point:
            raise self._error


class DieAt:
    """Ends its own process, as by kill -9, at the N-th reach of one point."""

    def __init__(self, point: str, times: int) -> None:
        self._point = point
        self._left = times

    def reach(self, point: FaultPoint) -> None:
        """Called just before the point's effect."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
