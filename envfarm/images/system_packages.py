"""Debian packages as files for a layer, without installing anything: apt resolves and downloads them, dpkg-deb unpacks them.

Called by the local layer builder. Nothing of a package is run (the alternatives that it would set are read from its scripts), no privilege
is needed, and apt keeps its state in a directory of ours, so this works for ordinary users and where the host has no package lists. It must
not touch the host's own packages.
"""

import fcntl
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from envfarm.core.errors import BuildOutage, ImageError
from envfarm.images import alternatives
from envfarm.images.outages import outage_in
from envfarm.images.tarball import Entry

LISTS_VALID_S = 24 * 3600
TIMEOUT_S = 600.0
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""On a merged-/usr system these are links into /usr; older packages still name them."""
UNWANTED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/src")


HOST_STATUS = "/var/lib/dpkg/status"


class InstalledBase(NamedTuple):
    """What packages are unpacked over."""

    status: str = ""
    """A dpkg status file's text, of what is there; empty for what the host has."""
    offered: Sequence[alternatives.Alternative] = ()
    """The alternatives that are offered there already."""
    identity: str = ""
    """Packages over another base are another layer."""
    trees: Sequence[Path] = ()
    """Its files, lowest first, where they are layers."""


HOST = InstalledBase()


class SystemPackages:
    """apt with a state directory of its own. `variables` may name proxies."""

    def __init__(self, state: Path, *, variables: Mapping[str, str]) -> None:
        self._state = state
        self._env = {**variables, "PATH": f"{os.defpath}:/usr/sbin:/sbin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
        self._env |= {name.lower(): value for name, value in variables.items() if name.upper().endswith("_PROXY")}

    def missing(self, packages: Sequence[str]) -> tuple[str, ...]:
        """Those that the host has not installed, sorted. Raises `ImageError` where the host has no dpkg to ask."""
        if not packages:
            return ()
        self._need("dpkg-query")
        asked = self._attempt("dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n", *packages)
        installed = {line.split()[0] for line in asked.stdout.splitlines() if line.endswith(" installed")}
        return tuple(sorted({p for p in packages if p not in installed}))

    def unpack(self, packages: Sequence[str], folder: Path, *, over: InstalledBase = HOST) -> tuple[str, ...]:
        """Download them with what they depend on and `over` lacks, and unpack all below `folder`; names of the archives.

        Blocks. Raises `ImageError` where there is no apt, and for unknown packages; `BuildOutage` when the mirror does not answer.
        """
        for program in ("apt-get", "dpkg-deb"):
            self._need(program)
        self._state.mkdir(parents=True, exist_ok=True)
        with (self._state / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            outage = self._update()
            try:
                archives = self._download(packages, over)
            except ImageError as e:
                if outage is not None:
                    raise outage from e
                raise
        offered: list[alternatives.Alternative] = []
        for archive in archives:
            self._run("dpkg-deb", "--extract", str(archive), str(folder))
            offered += alternatives.offered(self._attempt("dpkg-deb", "--info", str(archive), "postinst").stdout)
        alternatives.link_into(folder, alternatives.stronger(offered, over.offered))
        return tuple(archive.name for archive in archives)

    def _update(self) -> BuildOutage | None:
        """Fetch the lists. apt goes on without those that it cannot have: then the outage, which matters if a package is missing."""
        stamp = self._state / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_VALID_S:
            return None
        for name in ("lists/partial", "archives/partial", "plan/partial"):
            (self._state / name).mkdir(parents=True, exist_ok=True)
        done = self._run("apt-get", *self._options(), "update")
        if outage := outage_in(done.stderr):
            return outage
        stamp.touch()
        return None

    def _download(self, packages: Sequence[str], over: InstalledBase) -> list[Path]:
        status = Path(HOST_STATUS)
        if over.status:
            status = self._state / "status"
            status.write_text(over.status, encoding="utf-8", errors="surrogateescape")
        install = ("install", "--yes", "--no-install-recommends", "--no-remove")
        # Asked with an empty archive folder: apt does not name what it has downloaded already.
        planned = self._run("apt-get", *self._options(status, archives="plan"), "--print-uris", *install, "--", *packages).stdout
        names = [line.split()[1] for line in planned.splitlines() if line.startswith("'") and len(line.split()) > 1]
        self._run("apt-get", *self._options(status), "--download-only", *install, "--", *packages)
        return [self._state / "archives" / name for name in names]

    def _options(self, status: Path = Path(HOST_STATUS), *, archives: str = "archives") -> tuple[str, ...]:
        settings = {
            "Dir::State::Lists": self._state / "lists",
            "Dir::Cache": self._state,
            "Dir::Cache::Archives": self._state / archives,
            "Dir::State::status": status,
            "Dir::Log": self._state,
            "Debug::NoLocking": "1",
            "APT::Sandbox::User": "",
            "APT::Update::Post-Invoke-Success::": "",
            "Acquire::Retries": "2",
            "Acquire::http::Timeout": "30",
            "Acquire::Languages": "none",
        }
        return ("-q", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}")))

    def _need(self, program: str) -> None:
        if shutil.which(program, path=self._env["PATH"]) is None:
            hint = "use Docker for this recipe, or install the packages on this machine"
            raise ImageError(f"system packages need Debian's apt, and {program} is not on this machine", hint=hint)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        done = self._attempt(*command)
        if done.returncode < 0:
            raise BuildOutage(f"system packages: {command[0]} was ended by signal {-done.returncode}", hint="has the machine memory left?")
        if done.returncode:
            end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-20:])
            if outage := outage_in(end):
                raise outage
            raise ImageError(f"system packages: {command[0]} ended with status {done.returncode}:\n{end}")
        return done

    def _attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, errors="replace")
        except (OSError, subprocess.TimeoutExpired) as e:
            raise BuildOutage(
                f"system packages: {command[0]} did not run to its end: {e}", hint="is the mirror slow, or the machine?"
            ) from e


def is_unwanted(where: str) -> bool:
    """Whether a path is of manuals and the like."""
    return any(where == part or where.startswith(part + "/") for part in UNWANTED)


def layer_entries(folder: Path) -> Iterator[tuple[Entry, int]]:
    """What of unpacked packages goes into a layer: what is below /usr or belongs there, without manuals and set-id bits; and /etc."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        where = f"usr/{inside}" if inside.parts[0] in MERGED else str(inside)
        about = path.lstat()
        if not where.startswith(("usr/", "etc/")) or is_unwanted(where):
            continue
        if path.is_symlink():
            yield Entry(where, link=os.readlink(path)), int(about.st_mtime)  # noqa: PTH115 - the text itself is wanted
        elif path.is_dir():
            yield Entry(where, 0o755), int(about.st_mtime)
        elif stat.S_ISREG(about.st_mode) and (where.startswith("usr/") or about.st_mode & 0o004):
            yield Entry(where, about.st_mode & 0o777, content=path.read_bytes()), int(about.st_mtime)
