"""A temporary PostgreSQL on a unix socket, for tests that need a real one. It runs as an unprivileged user.

Needs PostgreSQL's programs, of any version: `apt-get install -y postgresql`.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOW_TO_GET = "no PostgreSQL here: apt-get install -y postgresql, and pip install 'envfarm[postgres]'"
PLACES = Path("/usr/lib/postgresql")
# For speed only: the data need not survive.
OPTIONS = ("-c listen_addresses=", "-c fsync=off", "-c full_page_writes=off", "-c max_connections=200", "-c shared_buffers=32MB")


def programs() -> Path | None:
    """The directory of the newest `initdb` and `pg_ctl`; None if they are not installed."""
    places = sorted(PLACES.glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    found = shutil.which("initdb")
    return places[-1].parent if places else Path(found).resolve().parent if found else None


class Cluster:
    """A running server."""

    def __init__(self, place: Path, tools: Path, user: str) -> None:
        self.place = place
        self.user = user
        self._tools = tools

    def run(self, *command: str) -> None:
        """Run one of PostgreSQL's programs as the cluster's user. Raises `RuntimeError` with its output."""
        argv = [str(self._tools / command[0]), *command[1:]]
        with (self.place / "said").open("ab") as said:
            done = subprocess.run(argv, stdout=said, stderr=said, cwd=self.place, check=False, **_as(self.user))
        if done.returncode:
            raise RuntimeError((self.place / "said").read_text(errors="replace")[-2000:])

    def database(self) -> str:
        """Create an empty database. Returns its URL."""
        name = f"test_{secrets.token_hex(6)}"
        self.run("createdb", "-h", str(self.place), "-U", "farm", name)
        return f"postgresql://farm@/{name}?host={self.place}"

    @property
    def pid(self) -> int:
        """The pid of its first process."""
        return int((self.place / "data/postmaster.pid").read_text().split()[0])

    def restart(self, how: str = "immediate") -> None:
        """Restart the server, as after a crash (`immediate`) or cleanly (`fast`)."""
        self.run("pg_ctl", "-D", str(self.place / "data"), "-m", how, "-w", "restart", "-o", self.options)

    @property
    def options(self) -> str:
        """The server's options."""
        return " ".join((*OPTIONS, f"-c unix_socket_directories={self.place}"))


@contextmanager
def cluster(tools: Path) -> Iterator[Cluster]:
    """Create and start a server, and remove it after the block."""
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    place = Path(tempfile.mkdtemp(prefix="envfarm-pg-", dir="/tmp"))  # the length of a socket's path is limited
    try:
        if os.geteuid() == 0:
            os.chown(place, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        made = Cluster(place, tools, user)
        data = str(place / "data")
        made.run("initdb", "-D", data, "-U", "farm", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        made.run("pg_ctl", "-D", data, "-w", "-l", str(place / "log"), "-o", made.options, "start")
        try:
            yield made
        finally:
            made.run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _as(user: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    found = pwd.getpwnam(user)
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
