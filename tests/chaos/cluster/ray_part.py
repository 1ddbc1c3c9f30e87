"""A Ray on this machine, started beside its driver as an operator does. Its processes are found by the session that they keep."""

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from envfarm.testing.served import free_port
from tests.chaos.cluster.part import Part
from tests.chaos.processes import in_session

UP_S = 60.0
STARTS = 3
"""Ray gives a node 30 s to come up, which no setting changes; on a busy machine it may need another try."""
SMALL = ("--num-cpus=4", "--object-store-memory=80000000", "--include-dashboard=false", "--node-ip-address=127.0.0.1")


class RayPart(Part):
    """Its head and only node."""

    def __init__(self, *, env: dict[str, str], log: Path, cwd: Path) -> None:
        self._place = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path has little room
        self.port, client = free_port(), free_port()
        ports = (f"--port={self.port}", f"--ray-client-server-port={client}", f"--temp-dir={self._place}")
        program = str(Path(sys.executable).with_name("ray"))
        self.variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        super().__init__("ray", (program, "start", "--head", "--block", *ports, *SMALL), env={**env, **self.variables}, log=log, cwd=cwd)

    def start(self) -> None:
        """Begin, and wait until it is up. Raises `RuntimeError`."""
        for _ in range(STARTS):
            said = self._log.stat().st_size if self._log.exists() else 0
            super().start()
            end = time.monotonic() + UP_S
            while time.monotonic() < end and self.ended is None:
                if b"Ray runtime started" in self._log.read_bytes()[said:]:
                    return
                time.sleep(0.2)
            self.kill()
        raise RuntimeError(f"Ray did not start, {STARTS} times")

    def kill(self) -> None:
        """All of it."""
        while alive := in_session(self.pid):
            for pid in alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        super().kill()

    def stop(self) -> int:
        """Its hosts were drained by their driver: nothing is lost."""
        self.kill()
        shutil.rmtree(self._place, ignore_errors=True)
        return 0
