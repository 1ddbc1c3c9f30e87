"""Implementations of fault points: one raises an error, one kills its own process."""

import os
import signal

from envfarm.core.faults import FaultPoint


class FailAt:
    """Raises an error each time one point is reached."""

    def __init__(self, point: FaultPoint, error: Exception) -> None:
        self._point = point
        self._error = error

    def reach(self, point: FaultPoint) -> None:
        """Called just before the point's effect; raises the error."""
        if point == self._point:
            raise self._error


class DieAt:
    """Kills its own process, as by kill -9, at the N-th time one point is reached."""

    def __init__(self, point: str, times: int) -> None:
        self._point = point
        self._left = times

    def reach(self, point: FaultPoint) -> None:
        """Called just before the point's effect."""
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
