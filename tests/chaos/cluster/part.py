"""A process of the farm that is harmed, and started again."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ENDS_S = 90.0


class Part:
    """One that ought to run, whatever became of it."""

    def __init__(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path, cwd: Path, ends_by: signal.Signals = signal.SIGTERM
    ) -> None:
        self.name = name
        self._ends_by = ends_by
        self._argv = list(argv)
        self._env = dict(env)
        self._log = log
        self._cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """What it ended with by itself; None while it lives."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Begin, in a session of its own, so that nobody's Ctrl-C meets it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, cwd=self._cwd, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """As by kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """In good order; what it ended with, -9 where it had to be made to."""
        assert self._process is not None
        if (status := self._process.poll()) is not None:
            return status
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGCONT)
        self._process.send_signal(self._ends_by)
        try:
            return self._process.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
