"""The Python interpreters that boxes of this machine can have: found, tried, and placed where a box may see them.

Called by the local layer builder, by task builders that choose a version, and by the doctor. An interpreter counts when it was really
run. It must not change an interpreter that it found: what is placed is a copy.
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envfarm.core.errors import ImageError
from envfarm.images.prefix_copy import copy_prefix
from envfarm.layers import sync_file_system

OLDEST, NEWEST = (3, 6), (3, 16)
VERSION_MANAGERS = (".pyenv/versions", ".local/share/uv/python", ".asdf/installs/python", ".local/share/mise/installs/python")
"""Where, below a user's home, installations lie side by side."""
PROBE_TIMEOUT_S = 20.0
INSTALL_TIMEOUT_S = 300.0
PROBE = """
import json, sys
def has(name):
    try:
        __import__(name)
        return True
    except Exception:
        return False
print(json.dumps({"version": list(sys.version_info[:3]), "final": sys.version_info[3] == "final", "implementation": sys.implementation.name,
 "prefix": sys.base_prefix, "ssl": has("ssl"), "venv": has("venv") and has("ensurepip"), "zlib": has("zlib"),
 "libraries": sorted({line.split()[-1] for line in open("/proc/self/maps") if "/libpython" in line})}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A CPython that was run on this machine."""

    version: str
    """`3.11.7`."""
    prefix: Path
    """Its installation, on the host."""
    ssl: bool
    """Whether it can speak TLS."""
    venv: bool
    """Whether `python -m venv` works in it. Builds do without: they use uv."""

    @property
    def minor(self) -> str:
        """`3.11`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def in_usr(self) -> bool:
        """Whether it is the distribution's own, which is part of the system that boxes see. One below /usr/local is placed like others."""
        return self.prefix == Path("/usr")

    @property
    def name(self) -> str | None:
        """Its name in the toolchain store; None where there is nothing to place."""
        return None if self.in_usr else f"python-{self.version}"

    @property
    def box_prefix(self) -> str:
        """Where a box sees it."""
        return str(self.prefix) if self.in_usr else f"/opt/{self.name}"

    @property
    def box_executable(self) -> str:
        """The program in a box: what `$PYTHON` names."""
        return f"{self.box_prefix}/bin/python{self.minor}"

    @property
    def order(self) -> tuple[int, ...]:
        """Older before newer; of one version, what needs no placing last."""
        return (*map(int, self.version.split(".")), self.in_usr)


class Toolchains:
    """The interpreters of this machine, and the store that boxes see at `/opt/<name>`.

    Any number of processes may share the store. `downloads` lets `uv python install` bring what is missing, with `variables` (proxy
    and certificate settings) as its environment.
    """

    def __init__(
        self,
        store: Path,
        *,
        user_home: Path | None = None,
        uv: Path | None = None,
        downloads: bool = False,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._user_home = user_home or Path.home()
        self._uv = uv
        self._downloads = downloads
        self._variables = dict(variables or {})
        self._found: tuple[Interpreter, ...] | None = None

    def available(self) -> tuple[Interpreter, ...]:
        """Every usable interpreter, oldest first, one for each full version. The first look takes about a second, later ones little."""
        if self._found is None:
            known = _Known(self._store / ".probed.json")
            with ThreadPoolExecutor(4, thread_name_prefix="toolchains") as pool:
                answers = list(pool.map(known.probe, sorted({path for path in self._candidates() if path.exists()})))
            known.keep()
            self._found = usable(answers)
        return self._found

    def find(self, version: str) -> Interpreter | None:
        """The newest one of a version (`3.11`, `3.11.7`) that this machine has, or may download; None when it cannot be had."""
        fitting = [found for found in self.available() if fits(found.version, version)]
        if fitting:
            return fitting[-1]
        return self._install(version) if self._downloads and self._uv is not None else None

    def place(self, version: str) -> str | None:
        """Make a version visible to boxes; its name in the store, or None where it is part of the system (`in_usr`).

        Raises `ImageError` when this machine cannot have it, or its files cannot be copied.
        """
        found = self.find(version)
        if found is None:
            has = ", ".join(sorted({i.minor for i in self.available()}, key=lambda v: int(v.split(".")[1]))) or "none"
            raise ImageError(
                f"Python {version} is not on this machine (usable here: {has})", hint=f"install it: uv python install {version}"
            )
        return self.place_found(found)

    def place_found(self, found: Interpreter) -> str | None:
        """As `place`, for an interpreter of `available`."""
        if found.name is None:
            return None
        target = self._store / found.name
        if not target.exists():
            with self._locked():
                self._copy(found, target)
        return found.name

    def place_of(self, found: Interpreter) -> Path:
        """Where on the host an interpreter is that was placed, or needs not be."""
        return self._store / found.name if found.name else found.prefix

    def collect(self) -> None:
        """Remove what killed processes copied by half. Waits while a living one copies."""
        if any(self._store.glob(".new-*")):
            with self._locked():
                self._collect()

    def _collect(self) -> None:
        for stale in self._store.glob(".new-*"):
            shutil.rmtree(stale, ignore_errors=True)

    def _copy(self, found: Interpreter, target: Path) -> None:
        self._collect()
        if target.exists():
            return
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=self._store))
        try:
            copy_prefix(found.prefix, fresh, minor=found.minor, box_prefix=found.box_prefix)
            fresh.chmod(0o755)
            again = probe(fresh / "bin" / f"python{found.minor}")
            # Its own library may be one of the machine's, below /usr: boxes have that, too.
            homes = (fresh.resolve(), Path("/usr"))
            if again is None or not all(any(Path(library).is_relative_to(home) for home in homes) for library in again["libraries"]):
                raise ImageError(f"Python {found.version} of {found.prefix} does not run from another place")
            sync_file_system(fresh)
            fresh.rename(target)
        except OSError as e:
            raise ImageError(f"Python {found.version} cannot be copied to {target}: {e}") from e
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process places at a time; what it left behind when it was killed is then nobody's."""
        self._store.mkdir(parents=True, exist_ok=True)
        with (self._store / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _candidates(self) -> Iterable[Path]:
        names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1])]
        for found in (shutil.which(name) for name in (*names, "python3")):
            # A shim starts whatever its version manager was told to, and slowly; what it may start is found below.
            if found is not None and Path(found).parent.name != "shims":
                yield Path(found)
        for name in names:
            yield from (Path(folder) / name for folder in ("/usr/bin", "/usr/local/bin"))
        roots = [self._user_home / folder for folder in VERSION_MANAGERS]
        for root in (*roots, self._store / ".uv", self._store):
            yield from (prefix / "bin/python3" for prefix in root.glob("*") if not prefix.name.startswith("."))

    def _install(self, version: str) -> Interpreter | None:
        """Ask uv for it once; that it cannot be had is remembered in the store until the file is removed."""
        refused = self._store / f".no-{version}"
        if refused.exists() or not re.fullmatch(r"3\.\d+(\.\d+)?", version):
            return None
        self._store.mkdir(parents=True, exist_ok=True)
        command = [str(self._uv), "python", "install", "--no-bin", "--install-dir", str(self._store / ".uv"), version]
        env = {**self._variables, "PATH": os.defpath, "HOME": str(self._user_home), "UV_HTTP_TIMEOUT": "10"}
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
            said = "" if done.returncode == 0 else done.stderr[-1000:] or f"status {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as e:
            said = str(e)
        if said:
            refused.write_text(said)
            return None
        self._found = None
        return next((found for found in reversed(self.available()) if fits(found.version, version)), None)


class _Known:
    """What programs said when they were run, as long as they are the same files. Scripts are run each time: they may choose."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._now: dict[str, dict[str, Any] | None] = {}
        try:
            self._before: dict[str, dict[str, Any] | None] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self._before = {}

    def probe(self, executable: Path) -> dict[str, Any] | None:
        program = executable.resolve()
        about = program.stat()
        with program.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                return probe(executable)
        key = f"{program} {about.st_ino} {about.st_size} {about.st_mtime_ns}"
        if key not in self._now:
            self._now[key] = self._before[key] if key in self._before else probe(program)
        return self._now[key]

    def keep(self) -> None:
        """Write it down; where that cannot be done, or was done by half when this process was killed, it is found out again."""
        if self._now == self._before:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._now))


def probe(executable: Path) -> dict[str, Any] | None:
    """Run it, alone and without its user's settings; None when it is no interpreter that works."""
    if not executable.exists():
        return None
    try:
        done = subprocess.run(
            [str(executable), "-I", "-c", PROBE],
            env={"PATH": os.defpath},
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
            cwd="/",
        )
        return json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return None


def usable(answers: Iterable[dict[str, Any] | None]) -> tuple[Interpreter, ...]:
    """What the probes said, as interpreters: released CPythons with zlib, one for each version, oldest first."""
    found: dict[str, Interpreter] = {}
    for said in answers:
        if said is None or said["implementation"] != "cpython" or not (said["final"] and said["zlib"]):
            continue
        if not OLDEST <= tuple(said["version"][:2]) < NEWEST:
            continue
        version = ".".join(map(str, said["version"]))
        prefix = Path(said["prefix"])
        one = Interpreter(version, prefix, ssl=said["ssl"], venv=said["venv"])
        if version not in found or found[version].order < one.order:
            found[version] = one
    return tuple(sorted(found.values(), key=lambda i: i.order))


def fits(version: str, wanted: str) -> bool:
    """Whether `3.11.7` is a `3.11`."""
    return version == wanted or version.startswith(wanted + ".")
