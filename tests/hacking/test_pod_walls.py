"""Hostile code in a pod's box: every probe fails, as the agent and, behind gVisor, as root; all succeed in a pod without walls."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from envfarm.core import digest
from envfarm.core.errors import BoxBroken
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.kubernetes import KubernetesProvider
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.testing.blobs import MemoryBlobs
from tests.contract import kubernetes_cluster as cluster
from tests.hacking.pod_probes import PROBES

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
ROOT_HAS = frozenset(
    {
        # The box's root is its own master: what is in the box is its.
        *(name for name in PROBES if name.startswith("the first process:") and "namespaces" not in name),
        "files: the passwords of the box",
        "files: the root of the box",
        "files: programs of the box",
        "kernel: root",
        "kernel: another root directory",
        "files: a cgroup's knobs",
        "kernel: a better place among processes",
    }
)
"""Behind gVisor the box's root may reach these, and they are of its own kernel."""
ROOT_IS = frozenset({"kernel: root", "files: the root of the box"})
"""What it reaches shows that it is root, and that its box lives."""
GVISOR_SHOWS = frozenset(
    {"the first process: its environment", "the first process: its descriptors", "kernel: a better place among processes"}
)
"""gVisor lets any user read these of any process; boxd keeps no secret there. A better place is one in the box's own kernel."""
ALL_DOWN = """
{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "without-walls"}}, "spec": {{
 "restartPolicy": "Never", "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet", "terminationGracePeriodSeconds": 0,
 "containers": [{{"name": "box", "image": "{image}", "command": ["sleep", "infinity"], "securityContext": {{"privileged": true}},
  "volumeMounts": [{{"name": "node", "mountPath": "/node"}}]}}],
 "volumes": [{{"name": "node", "hostPath": {{"path": "/"}}}}]}}}}
"""


@contextmanager
def secret_server(address: str) -> Iterator[int]:
    """A server that stands for the farm's API, its database and the world: says `secret` by TCP and UDP."""
    with socket.create_server((address, 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        port: int = tcp.getsockname()[1]
        udp.bind((address, port))

        def by_tcp() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = tcp.accept()
                    connection.sendall(b"secret")
                    connection.close()

        def by_udp() -> None:
            with suppress(OSError):
                while True:
                    udp.sendto(b"secret", udp.recvfrom(16)[1])

        for work in (by_tcp, by_udp):
            threading.Thread(target=work, daemon=True).start()
        yield port
        tcp.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    cluster.skip_without_cluster()
    return cluster.push(cluster.IMAGE, "library/python:3.11-slim")


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory, image: str) -> Iterator[KubernetesOptions]:
    assert image
    boxd = cluster.push_boxd(Path(boxd_binary.find()), tmp_path_factory.mktemp("boxd"))
    with cluster.namespace() as name:
        yield KubernetesOptions(boxd_image=boxd, namespace=name, cpu_requested=0.02)


@pytest.fixture(scope="module")
def to_reach(boxes: KubernetesOptions) -> Iterator[dict[str, object]]:
    """What probes aim at. Another box's address is filled in by the test."""
    server = urlsplit(cluster.run("kubectl", "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"))
    addresses = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}'
    node = cluster.run("kubectl", "get", "nodes", "-l", "type!=kwok", "-o", addresses).split()[0]
    api = cluster.run("kubectl", "get", "endpointslices", "-n", "default", "-l", "kubernetes.io/service-name=kubernetes", "-o", "json")
    (endpoint, *_) = json.loads(api)["items"]
    names = cluster.run("kubectl", "get", "service", "-n", "kube-system", "kube-dns", "-o", "jsonpath={.spec.clusterIP}")
    service = cluster.run("kubectl", "get", "service", "-n", "default", "kubernetes", "-o", "jsonpath={.spec.clusterIP}")
    assert server.port
    with secret_server(node) as port, secret_server("127.0.0.1") as loopback:
        yield {
            "api": endpoint["endpoints"][0]["addresses"][0],
            "api_port": endpoint["ports"][0]["port"],
            "service": service,
            "node": node,
            "port": port,
            "loopback": loopback,
            "names": names,
        }


def aimed(program: str, targets: dict[str, object]) -> str:
    for name, value in targets.items():
        program = program.replace(f"{{{name}}}", str(value))
    return program


def spec(image: str) -> SandboxSpec:
    made = ImageRef(kind="oci", digest=digest.of_bytes(image.encode()), reference=image)
    return SandboxSpec(environment=Environment(image=made, work_dir="/home/agent"), memory_mib=256, disk_mib=64, pids=64)


async def reached_in(box: BoxdBox, targets: dict[str, object], user: str) -> set[str]:
    found = set()
    for name, program in PROBES.items():
        if user == "root" and name.startswith("resources:"):
            continue  # the box's limits are the agent's; the pod's are measured by the agent's probes
        asked = ExecRequest(argv=("python3", "-c", aimed(program, targets)), user=user, timeout_s=30)
        with suppress(BoxBroken) if name.startswith("resources:") else nullcontext():  # a box that has ended shows nothing of its walls
            if b"REACHED" in (await box.exec(asked)).stdout:
                found.add(name)
    return found


@pytest.mark.parametrize("runtime", ["", "gvisor"])
async def test_a_box_reaches_nothing(runtime: str, boxes: KubernetesOptions, image: str, to_reach: dict[str, object]) -> None:
    provider = KubernetesProvider(boxes.model_copy(update={"runtime_class": runtime, "own_kernel": bool(runtime)}), MemoryBlobs())
    try:
        boxes_of = [await provider.create(spec(image)) for _ in range(3)]
        targets = {**to_reach, "neighbour": boxes_of[2]._access.endpoint.host}
        assert await reached_in(boxes_of[0], targets, "agent") <= (GVISOR_SHOWS if runtime else set())
        if runtime:
            assert ROOT_IS <= await reached_in(boxes_of[1], targets, "root") <= ROOT_HAS
    finally:
        await provider.aclose()


async def test_each_probe_succeeds_where_no_wall_stands(boxes: KubernetesOptions, image: str, to_reach: dict[str, object]) -> None:
    provider = KubernetesProvider(boxes, MemoryBlobs())
    with cluster.namespace(policies=False) as name:
        cluster.run("kubectl", "apply", "-n", name, "-f", "-", stdin=ALL_DOWN.format(image=image))
        cluster.run("kubectl", "wait", "-n", name, "--for=condition=Ready", "pod/without-walls", "--timeout=120s")
        try:
            neighbour = await provider.create(spec(image))
            targets = {**to_reach, "neighbour": neighbour._access.endpoint.host}
            programs = {name: aimed(program, targets) for name, program in PROBES.items()}
            ask = ("kubectl", "exec", "-i", "-n", name, "without-walls", "--", "python3", "-c", RUN_ALL)
            told = await asyncio.to_thread(lambda: cluster.run(*ask, stdin=json.dumps(programs)))
        finally:
            await provider.aclose()
    assert {name for name, said in json.loads(told).items() if "REACHED" not in said} == set(), told


RUN_ALL = """
import json, subprocess, sys
told = {}
for name, program in json.load(sys.stdin).items():
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    told[name] = (done.stdout + done.stderr)[-300:]
print(json.dumps(told))
"""
