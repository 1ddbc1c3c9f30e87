"""What a Docker box is made of: from a spec to the arguments of `create`. Pure; called by `docker`.

boxd is the container's first process, as root with the six capabilities it needs; everything else in the box is the agent, uid 1000,
without any. What the agent may write to is, where that can be, in memory of a known size. A container's own file system, which is its
host's, has no limit: boxd looks after what the agent writes there.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from envfarm.core.sandbox import Network, SandboxSpec

AGENT = 1000
HOME = "/home/agent"
ROOM = "/.envfarm"
"""A directory that root alone may enter: boxd and its socket lie in it."""
BOXD = f"{ROOM}/boxd"
SOCKETS = f"{ROOM}/run"
SOCKET = "boxd"
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
LABEL = "envfarm."
MEMORY_DISK_MIB = 8192
"""The largest writable space that is held in memory."""
DISK_SHARE_PERCENT = 97
"""Of it: beyond this boxd ends what fills it, before the kernel says that the disk is full."""
BOXD_MEMORY_MIB = 64
BOXD_PIDS = 64
"""For boxd itself, above what the box may have: its watchdog shall act before the kernel does."""
WATCHDOG_MS = 50
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HostPlaces(NamedTuple):
    """Paths of the host that a container sees."""

    boxd: str
    sockets: str
    """The box's own directory, which boxd's socket appears in."""
    attached: Mapping[str, str] = {}
    """Directories below /opt that are no part of the image, by name."""


def memory_areas(spec: SandboxSpec, *, own_work_dir: bool) -> tuple[str, ...]:
    """Directories of the box that are held in memory. `own_work_dir`: nothing of the image is hidden by the work dir being one."""
    if spec.disk_mib > MEMORY_DISK_MIB or spec.network is Network.OPEN:
        return ()
    areas = ["/tmp", "/var/tmp", HOME, "/dev/shm"]  # noqa: S108 - in the box
    inside = any(spec.environment.work_dir == area or spec.environment.work_dir.startswith(area + "/") for area in areas)
    if own_work_dir and spec.environment.work_dir != "/" and not inside:
        areas.append(spec.environment.work_dir)
    return tuple(areas)


def host_config(spec: SandboxSpec, places: HostPlaces, *, areas: Sequence[str]) -> dict[str, Any]:
    """Arguments of docker-py's `create_host_config`."""
    memory = f"{spec.memory_mib + BOXD_MEMORY_MIB + (spec.disk_mib if areas else 0)}m"
    tmpfs = {ROOM: "rw,nosuid,nodev,noexec,size=64k,mode=0700"}
    for area in areas:
        shared = area in ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - in the box
        mode = "mode=1777" if shared else f"mode=0755,uid={AGENT},gid={AGENT}"
        tmpfs[area] = f"rw,exec,nosuid,nodev,size={spec.disk_mib}m,{mode}"
    binds = [f"{places.boxd}:{BOXD}:ro", f"{places.sockets}:{SOCKETS}:rw"]
    binds += [f"{source}:/opt/{name}:ro" for name, source in places.attached.items()]
    binds += [f"{mount.source}:{mount.target}:{'rw' if mount.writable else 'ro'}" for mount in spec.mounts]
    return {
        "cap_drop": ["ALL"],
        "cap_add": list(CAPABILITIES),
        "security_opt": ["no-new-privileges"],
        "network_mode": "bridge" if spec.network is Network.OPEN else "none",
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": spec.pids + BOXD_PIDS,
        "nano_cpus": max(1, int(spec.cpus * 1_000_000_000)),
        "tmpfs": tmpfs,
        "binds": binds,
        "ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}, {"Name": "fsize", "Soft": spec.disk_mib << 20, "Hard": spec.disk_mib << 20}],
        "log_config": {"Type": "json-file", "Config": {"max-size": "256k", "max-file": "1"}},
        "init": False,
    }


def box_variables(spec: SandboxSpec, image_env: Sequence[str]) -> dict[str, str]:
    """The image's variables, ours, then the environment's own."""
    said = dict(item.split("=", 1) for item in image_env if "=" in item)
    ours = {"HOME": HOME, "USER": "agent", "LOGNAME": "agent", "SHELL": "/bin/sh"}
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", **said, **ours, **spec.environment.env}


def boxd_config(spec: SandboxSpec, *, token: str, areas: Sequence[str], env: Mapping[str, str], seccomp: bytes) -> dict[str, Any]:
    """What boxd reads before it runs anything. `seccomp` is a filter that lies over the daemon's own, which no two versions have alike."""
    limits: dict[str, int] = {"memory_bytes": spec.memory_mib << 20, "pids": spec.pids}
    closed = spec.network is not Network.OPEN
    if closed:
        limits["disk_bytes"] = (spec.disk_mib << 20) * DISK_SHARE_PERCENT // 100
    return {
        "token": token,
        "epoch": spec.epoch,
        "listen_unix": f"{SOCKETS}/{SOCKET}",
        "agent_uid": AGENT,
        "agent_gid": AGENT,
        "work_dir": spec.environment.work_dir,
        "limits": limits,
        "watchdog_ms": WATCHDOG_MS,
        "disk_paths": list(areas),
        "shared_disk": "/" if closed else "",
        "seccomp": base64.b64encode(seccomp).decode(),
        "exec_env": dict(env),
        "umask": 0o022,
    }


def labels(spec: SandboxSpec, *, box: str, maker: str, home: str) -> dict[str, str]:
    """Everything that a collector needs to know, on the container itself."""
    said = {
        "box": box,
        "run": spec.run_id,
        "episode": spec.episode_id,
        "deadline": spec.deadline.isoformat() if spec.deadline else "",
        "maker": maker,
        "home": home,
    }
    return {f"{LABEL}{name}": value for name, value in said.items()}


READY = """\
grep -q '^[^:]*:[^:]*:1000:' /etc/passwd || echo agent:x:1000:1000::/home/agent:/bin/sh >> /etc/passwd
grep -q '^[^:]*:[^:]*:1000:' /etc/group || echo agent:x:1000: >> /etc/group
mkdir -p /home/agent "$1" && chown 1000:1000 /home/agent
[ "$1" = / ] || [ "$(stat -c %u "$1")" = 1000 ] || chown -R 1000:1000 "$1"
"""
"""Run as the box's root, with the work dir as `$1`: the agent's name and its directories, in images that know nothing of it."""
