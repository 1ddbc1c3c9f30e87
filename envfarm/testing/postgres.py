"""A throw-away PostgreSQL on a unix socket, for tests that must see a real one. Started as an unprivileged user, gone when it is left.

Needs PostgreSQL's own programs: `apt-get install -y postgresql`, whatever its version.
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
# Speed alone: nothing of it survives in any case.
OPTIONS = ("-c listen_addresses=", "-c fsync=off", "-c full_page_writes=off", "-c max_connections=200", "-c shared_buffers=32MB")


def programs() -> Path | None:
    """The directory of `initdb` and `pg_ctl`, the newest; None where there is none."""
    places = sorted(PLACES.glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    found = shutil.which("initdb")
    return places[-1].parent if places else Path(found).resolve().parent if found else None


class Cluster:
    """A running one."""

    def __init__(self, place: Path, tools: Path, user: str) -> None:
        self.place = place
        self.user = user
        self._tools = tools

    def run(self, *command: str) -> None:
        """One of PostgreSQL's programs, as the cluster's user. Raises `RuntimeError` with what it said."""
        argv = [str(self._tools / command[0]), *command[1:]]
        with (self.place / "said").open("ab") as said:
            done = subprocess.run(argv, stdout=said, stderr=said, cwd=self.place, check=False, **_as(self.user))
        if done.returncode:
            raise RuntimeError((self.place / "said").read_text(errors="replace")[-2000:])

    def database(self) -> str:
        """A new empty database; its address."""
        name = f"test_{secrets.token_hex(6)}"
        self.run("createdb", "-h", str(self.place), "-U", "farm", name)
        return f"postgresql://farm@/{name}?host={self.place}"

    @property
    def pid(self) -> int:
        """Its first process."""
        return int((self.place / "data/postmaster.pid").read_text().split()[0])

    def restart(self, how: str = "immediate") -> None:
        """As by a crash of the server (`immediate`), or in good order (`fast`)."""
        self.run("pg_ctl", "-D", str(self.place / "data"), "-m", how, "-w", "restart", "-o", self.options)

    @property
    def options(self) -> str:
        """What the server is started with."""
        return " ".join((*OPTIONS, f"-c unix_socket_directories={self.place}"))


@contextmanager
def cluster(tools: Path) -> Iterator[Cluster]:
    """Make and start one, and remove it after the block."""
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    place = Path(tempfile.mkdtemp(prefix="envfarm-pg-", dir="/tmp"))  # a socket's path has little room
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
