"""From a box's spec to the arguments of Docker's `create`. Pure.

boxd is the container's first process, as root with the six capabilities that it needs. Everything else in the box runs as the agent, uid
1000, without capabilities. Where possible, the directories that the agent may write to are in memory and of a fixed size. A container's
own file system, on the host's disk, has no limit: there boxd watches how much the agent writes.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from envfarm.core.sandbox import Network, SandboxSpec

AGENT = 1000
HOME = "/home/agent"
ROOM = "/.envfarm"
"""A directory that only root may enter: it holds boxd and its socket."""
BOXD = f"{ROOM}/boxd"
SOCKETS = f"{ROOM}/run"
SOCKET = "boxd"
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")
LABEL = "envfarm."
MEMORY_DISK_MIB = 8192
"""The largest writable space that is kept in memory."""
DISK_SHARE_PERCENT = 97
"""Of the writable space: above this boxd kills whatever fills it, before the kernel reports a full disk."""
BOXD_MEMORY_MIB = 64
BOXD_PIDS = 64
"""For boxd itself, on top of the box's limits, so that its watchdog acts before the kernel does."""
WATCHDOG_MS = 50
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HostPlaces(NamedTuple):
    """Host paths that are mounted into a container."""

    boxd: str
    sockets: str
    """The box's own directory, in which boxd's socket appears."""
    attached: Mapping[str, str] = {}
    """Directories below /opt that are not part of the image, by name."""


def memory_areas(spec: SandboxSpec, *, own_work_dir: bool) -> tuple[str, ...]:
    """Directories of the box that are kept in memory. `own_work_dir`: the work dir may be one, since it would hide no file of the image."""
    if spec.disk_mib > MEMORY_DISK_MIB or spec.network is Network.OPEN:
        return ()
    areas = ["/tmp", "/var/tmp", HOME, "/dev/shm"]  # noqa: S108 - in the box
    inside = any(spec.environment.work_dir == area or spec.environment.work_dir.startswith(area + "/") for area in areas)
    if own_work_dir and spec.environment.work_dir != "/" and not inside:
        areas.append(spec.environment.work_dir)
    return tuple(areas)


def host_config(spec: SandboxSpec, places: HostPlaces, *, areas: Sequence[str]) -> dict[str, Any]:
    """The arguments of docker-py's `create_host_config`."""
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
    """Variables of the image, then the box's, then the environment's own; later ones win."""
    said = dict(item.split("=", 1) for item in image_env if "=" in item)
    ours = {"HOME": HOME, "USER": "agent", "LOGNAME": "agent", "SHELL": "/bin/sh"}
    return {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", **said, **ours, **spec.environment.env}


def boxd_config(spec: SandboxSpec, *, token: str, areas: Sequence[str], env: Mapping[str, str], seccomp: bytes) -> dict[str, Any]:
    """The configuration of boxd. `seccomp` is applied on top of Docker's own filter, which differs between versions."""
    limits: dict[str, int] = {"memory_bytes": spec.memory_mib << 20, "pids": spec.pids}
    closed = spec.network is not Network.OPEN
    if closed:
        limits["disk_bytes"] = (spec.disk_mib << 20) * DISK_SHARE_PERCENT // 100
        limits["disk_inodes"] = spec.disk_inodes
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
    """The container's labels: all that a collector needs to know."""
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
"""Run as the box's root with the work dir as `$1`: creates the agent's account and directories in images that lack them."""
