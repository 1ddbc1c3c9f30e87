"""From a box's spec to a pod's manifest. Pure.

An init container copies boxd into the pod. boxd is the main container's first process, as root with the six capabilities that it needs.
Everything else in the box runs as the agent, uid 1000, without capabilities. The pod has no token of the cluster, and only a digest of
boxd's own.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from envfarm.core import digest
from envfarm.core.image import BlobRef
from envfarm.core.sandbox import Network, SandboxSpec
from envfarm.sandboxes.docker_plan import AGENT, BOXD_MEMORY_MIB, CAPABILITIES, ROOM, box_variables, boxd_config, memory_areas
from envfarm.sandboxes.kubernetes_api import Json
from envfarm.sandboxes.kubernetes_options import KubernetesOptions

DOMAIN = "envfarm.dev/"
PORT = 7070
CONTAINER = "box"
BOXD = f"{ROOM}/boxd"
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
LARGEST_FILES_MIB = 64
"""For the boxd binary and the container's log, on top of what the box may write."""
NOWHERE = "127.0.0.1"
"""The name server of a closed box; nothing listens there."""
OF_THE_CLUSTER = ("KUBERNETES_", "HOSTNAME=")
"""Variables that the kubelet and the runtime set, not the image."""
ANY_CHECKOUT = BlobRef(digest=digest.of_bytes(b""), size_bytes=0)
"""A placeholder in a shape for any checkout."""
OWNER = "envfarm"
"""The `owner` label of pods in use; empty on pods that were created ahead and are not claimed yet."""
AFTER_DEADLINE_S = 600
"""This long after the deadline the cluster itself ends the pod, if no collector has."""
LONGEST_LIFE_S = 2**31 - 1
AHEAD_LIFE_S = 4 * 86400
"""After this the cluster ends a pod that was created ahead, whether its maker lives or not. A claim can only shorten it."""
LONGEST_AHEAD_S = AHEAD_LIFE_S // 2
"""How long such a pod may wait for its claim, and how long the claimed box may then be needed."""
PROBE_LIFE_S = 300
POD: Json = {
    "restartPolicy": "Never",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "terminationGracePeriodSeconds": 1,
    "hostname": "box",
    "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
}
"""What every pod is."""


class Maker(NamedTuple):
    """Who creates pods."""

    farm: str
    maker: str


def label(value: str) -> str:
    """A value as a label value: itself, or a digest if it is not a valid label value."""
    return value if LABEL_VALUE.fullmatch(value) else "sha256-" + hashlib.sha256(value.encode()).hexdigest()[:48]


def selector(**labels: str) -> str:
    """A label selector of boxes."""
    return ",".join([f"{DOMAIN}part=box", *(f"{DOMAIN}{name}={label(value)}" for name, value in labels.items())])


def claimed(farm: str) -> str:
    """A label selector of a farm's boxes that are in use: not of those created ahead and not claimed yet."""
    return f"{selector(farm=farm)},{DOMAIN}owner!="


def unclaimed(farm: str) -> str:
    """A label selector of the others."""
    return selector(farm=farm, owner="")


def areas_of(spec: SandboxSpec) -> tuple[str, ...]:
    """Directories kept in memory. The work dir only if a checkout fills it, else the image's files would be hidden."""
    return memory_areas(spec, own_work_dir=spec.environment.checkout is not None)


def shape(spec: SandboxSpec) -> SandboxSpec:
    """The spec without what is configured after a pod's creation: pods of one shape are interchangeable until then."""
    checkout = ANY_CHECKOUT if spec.environment.checkout else None
    environment = spec.environment.model_copy(update={"env": {}, "checkout": checkout})
    sizes = {"cpus": spec.cpus, "memory_mib": spec.memory_mib, "disk_mib": spec.disk_mib, "pids": spec.pids}
    return SandboxSpec(environment=environment, network=spec.network, **sizes)


def lasts(spec: SandboxSpec, *, now: float) -> bool:
    """Whether a pod that was created ahead lives long enough for this box."""
    return spec.deadline is None or _lifetime_s(spec.deadline, now) <= LONGEST_AHEAD_S


def claim(spec: SandboxSpec, *, maker: Maker, now: float, age_s: float) -> Json:
    """A patch with the new owner of a pod that was created ahead."""
    patch: Json = {"metadata": _metadata(spec, maker, owner=OWNER)}
    if spec.deadline:
        patch["spec"] = {"activeDeadlineSeconds": min(_lifetime_s(spec.deadline, now - age_s), AHEAD_LIFE_S)}
    return patch


def adoption(maker: Maker, *, version: str) -> Json:
    """A patch that gives a pod another maker, refused (409) if the pod is no longer as it was in this `version`."""
    mine = {f"{DOMAIN}maker": maker.maker}
    return {"metadata": {"labels": mine, "annotations": mine, "resourceVersion": version}}


def is_adoptable(pod: Json, spec: SandboxSpec, *, options: KubernetesOptions, now: float) -> bool:
    """Whether a pod was claimed by the spec's episode, runs, has this farm's boxd, and lasts: half as long as a box that is made now."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    said = metadata.get("annotations") or {}
    if metadata.get("deletionTimestamp") or status.get("phase") != "Running" or not status.get("podIP"):
        return False
    if (said.get(f"{DOMAIN}farm"), said.get(f"{DOMAIN}owner"), said.get(f"{DOMAIN}episode")) != (options.farm, OWNER, spec.episode_id):
        return False
    if [each["image"] for each in pod["spec"].get("initContainers") or ()] != [options.boxd_image]:
        return False
    lasts_s = pod["spec"].get("activeDeadlineSeconds")
    if lasts_s is None or spec.deadline is None:
        return True
    ends_at = datetime.fromisoformat(status["startTime"]).timestamp() + float(lasts_s)
    return ends_at - now > _lifetime_s(spec.deadline, now) / 2


def manifest(
    spec: SandboxSpec, name: str, *, token_digest: str, maker: Maker, options: KubernetesOptions, now: float, ahead: bool = False
) -> Json:
    """The pod, ready to post. `now` is the cluster's time, in seconds since the epoch; a pod that is created `ahead` has no owner yet."""
    areas = areas_of(spec)
    pod: Json = {
        **POD,
        "initContainers": [_installer(options)],
        "containers": [_box(spec, areas, token_digest, cpu_requested=options.cpu_requested)],
        "volumes": _volumes(spec, areas),
        **_names(spec.network),
        **_placement(options),
    }
    if spec.deadline:
        pod["activeDeadlineSeconds"] = _lifetime_s(spec.deadline, now)
    elif ahead:
        pod["activeDeadlineSeconds"] = AHEAD_LIFE_S
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **_metadata(spec, maker, owner="" if ahead else OWNER)},
        "spec": pod,
    }


def probe(name: str, node: str, *, token_digest: str, maker: Maker, options: KubernetesOptions) -> Json:
    """A pod on this node in which no agent ever is: boxd alone, from its own image, which every box's node has."""
    sizes = {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "16Mi"}
    boxd = {
        "name": CONTAINER,
        "image": options.boxd_image,
        "command": ["/boxd", "await", f":{PORT}", token_digest],
        "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"limits": sizes, "requests": sizes},
    }
    placement = {key: value for key, value in _placement(options).items() if key != "nodeSelector"}
    pod = {**POD, "nodeName": node, "containers": [boxd], "activeDeadlineSeconds": PROBE_LIFE_S, **_names(Network.CLOSED), **placement}
    said = {"owner": OWNER, "farm": maker.farm, "maker": maker.maker}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **_said(said)}, "spec": pod}


def _metadata(spec: SandboxSpec, maker: Maker, *, owner: str) -> Json:
    said = {"owner": owner, "run": spec.run_id, "episode": spec.episode_id, "farm": maker.farm, "maker": maker.maker}
    return _said(said, **({"deadline": spec.deadline.isoformat()} if spec.deadline else {}))


def _said(labels: dict[str, str], **annotations: str) -> Json:
    return {
        "labels": {f"{DOMAIN}part": "box", **{DOMAIN + key: label(value) for key, value in labels.items()}},
        "annotations": {DOMAIN + key: value for key, value in {**labels, **annotations}.items()},
    }


def _lifetime_s(deadline: datetime, since: float) -> int:
    return min(max(1, int(deadline.timestamp() - since) + AFTER_DEADLINE_S), LONGEST_LIFE_S)


def config(spec: SandboxSpec, *, variables: Sequence[str], seccomp: bytes) -> Json:
    """The configuration for a started boxd. `variables` are those of its container."""
    areas = areas_of(spec)
    of_image = [each for each in variables if not each.startswith(OF_THE_CLUSTER)]
    said = boxd_config(spec, token="", areas=areas, env=box_variables(spec, of_image), seccomp=seccomp)
    said["limits"]["file_bytes"] = spec.disk_mib << 20
    return {key: value for key, value in said.items() if key not in {"token", "listen_unix"}}


def _installer(options: KubernetesOptions) -> Json:
    return {
        "name": "boxd",
        "image": options.boxd_image,
        "command": ["/boxd", "install", BOXD],
        "securityContext": {"runAsUser": 0, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
        "volumeMounts": [{"name": "room", "mountPath": ROOM}],
    }


def _box(spec: SandboxSpec, areas: Sequence[str], token_digest: str, *, cpu_requested: float) -> Json:
    memory = f"{spec.memory_mib + BOXD_MEMORY_MIB + (spec.disk_mib if areas else 0)}Mi"
    sizes = {"memory": memory, "ephemeral-storage": f"{spec.disk_mib + LARGEST_FILES_MIB}Mi"}
    return {
        "name": CONTAINER,
        "image": spec.environment.image.reference,
        "command": [BOXD, "await", f":{PORT}", token_digest],
        "workingDir": "/",
        "ports": [{"name": "boxd", "containerPort": PORT}],
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
        },
        "resources": {"limits": {"cpu": _cpu(spec.cpus), **sizes}, "requests": {"cpu": _cpu(spec.cpus * cpu_requested), **sizes}},
        "volumeMounts": [
            {"name": "room", "mountPath": ROOM, "readOnly": True},
            *({"name": f"area-{number}", "mountPath": area} for number, area in enumerate(areas)),
        ],
    }


def _cpu(cpus: float) -> str:
    return f"{max(1, round(cpus * 1000))}m"


def _volumes(spec: SandboxSpec, areas: Sequence[str]) -> list[Json]:
    in_memory = {"medium": "Memory", "sizeLimit": f"{spec.disk_mib}Mi"}
    room: Json = {"name": "room", "emptyDir": {}}
    return [room, *({"name": f"area-{number}", "emptyDir": in_memory} for number in range(len(areas)))]


def _names(network: Network) -> Json:
    if network is Network.OPEN:
        return {"dnsPolicy": "Default"}
    return {"dnsPolicy": "None", "dnsConfig": {"nameservers": [NOWHERE], "options": [{"name": "attempts", "value": "1"}]}}


def _placement(options: KubernetesOptions) -> Json:
    asked: Json = {
        "runtimeClassName": options.runtime_class,
        "nodeSelector": options.node_selector,
        "tolerations": [{key: value for key, value in each.model_dump().items() if value} for each in options.tolerations],
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets],
        "priorityClassName": options.priority_class,
    }
    return {key: value for key, value in asked.items() if value}


AREAS_READY = """\
for area in "$@"; do
  case "$area" in /tmp|/var/tmp|/dev/shm) chmod 1777 "$area" ;; *) chmod 0755 "$area"; chown 1000:1000 "$area" ;; esac
done
"""
"""Run as the box's root with the areas as arguments: a memory volume is world-writable at first."""

__all__ = [
    "AGENT",
    "AREAS_READY",
    "CONTAINER",
    "DOMAIN",
    "PORT",
    "Maker",
    "areas_of",
    "claim",
    "claimed",
    "config",
    "label",
    "lasts",
    "manifest",
    "selector",
    "shape",
    "unclaimed",
]
