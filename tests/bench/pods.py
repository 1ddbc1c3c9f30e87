"""A pod's box from nothing to the end of its first action, cold and claimed from the warm pool, beside `kubectl exec` and `kubectl run`.

In the cluster that `ENVFARM_KUBERNETES` speaks of; kubectl must reach the same one.
"""

import asyncio
import uuid
from functools import partial

from envfarm.core import digest
from envfarm.core.errors import SandboxError, UsageError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.kubernetes import KubernetesProvider
from envfarm.sandboxes.kubernetes_options import KubernetesOptions, load
from tests.bench.machine import TRUE, Bench
from tests.bench.measure import Clock, Row, Sampler, interleaved

ROUNDS = 10
EACH = 5
"""Boxes that are made ahead and then claimed, one after the other."""
READY_S = 120.0


async def rows(bench: Bench) -> list[Row]:
    """The section. Raises `UsageError` where no cluster is configured."""
    if not bench.pod_image:
        raise UsageError("no image for pods", hint="--pod-image names one that the cluster pulls, by digest")
    options = load(bench.farm.settings.kubernetes).model_copy(update={"warm": EACH})
    environment = Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(bench.pod_image.encode()), reference=bench.pod_image))
    spec = SandboxSpec(environment=environment, cpus=0.5, memory_mib=256, disk_mib=64)
    provider = KubernetesProvider(options, bench.farm.blobs)
    peer = Kubectl(options, bench.pod_image)
    try:
        await (await provider.create(spec)).close()
        await peer.start()
        samplers: dict[str, Sampler] = {
            "warm": partial(_claims, provider, spec),
            "cold": partial(_creations, provider, spec),
            "kubectl exec": peer.execs,
            "kubectl run": peer.runs,
        }
        taken = await interleaved(samplers, rounds=bench.rounds(ROUNDS), each=EACH)
    finally:
        await peer.stop()
        await provider.aclose()
    run, exec_ = "kubectl run, wait, exec true", "kubectl exec true"
    return [
        Row("claim to first action, pod made ahead", "ms", taken["warm"], exec_, taken["kubectl exec"], target="p50 <= 50 ms"),
        Row("claim to first action, pod made ahead", "ms", taken["warm"], "a cold pod", taken["cold"]),
        Row("start to first action, cold pod", "ms", taken["cold"], run, taken["kubectl run"]),
    ]


async def _claims(provider: KubernetesProvider, spec: SandboxSpec, count: int) -> list[float]:
    provider.foresee([spec] * count)
    async with asyncio.timeout(READY_S):
        while provider.warm.idle < count:  # noqa: ASYNC110 - what is measured begins when they are there
            await asyncio.sleep(0.05)
    clock, boxes = Clock(), []
    for _ in range(count):
        with clock:
            box = await provider.create(spec)
            await box.exec(TRUE)
        boxes.append(box)
    for box in boxes:
        await box.close()
    return clock.taken


async def _creations(provider: KubernetesProvider, spec: SandboxSpec, count: int) -> list[float]:
    clock = Clock()
    for _ in range(max(1, count // EACH)):
        with clock:
            box = await provider.create(spec)
            await box.exec(TRUE)
        await box.close()
    return clock.taken


class Kubectl:
    """The same by kubectl, in the same namespace."""

    def __init__(self, options: KubernetesOptions, image: str) -> None:
        self._image = image
        self._options = options
        self._name = f"bench-{uuid.uuid4().hex[:8]}"

    async def start(self) -> None:
        """Make the pod that `execs` go to."""
        await self._make(self._name)

    async def stop(self) -> None:
        """Remove it."""
        await self._said("delete", "pod", self._name, "--ignore-not-found", "--grace-period=1", "--wait=false")

    async def execs(self, count: int) -> list[float]:
        """Commands in a pod that is there."""
        clock = Clock()
        for _ in range(count):
            with clock:
                await self._said("exec", self._name, "--", "true")
        return clock.taken

    async def runs(self, count: int) -> list[float]:
        """Pods from nothing to their first command."""
        clock = Clock()
        for number in range(max(1, count // EACH)):
            name = f"{self._name}-{number}"
            with clock:
                await self._make(name)
                await self._said("exec", name, "--", "true")
            await self._said("delete", "pod", name, "--grace-period=1")
        return clock.taken

    async def _make(self, name: str) -> None:
        await self._said("run", name, "--image", self._image, "--restart=Never", "--command", "--", "sleep", "10000")
        await self._said("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={READY_S:.0f}s")

    async def _said(self, *arguments: str) -> None:
        kubectl = ("kubectl", "-n", self._options.namespace)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*kubectl, *arguments, stdout=pipe, stderr=pipe)
        _, err = await process.communicate()
        if process.returncode:
            raise SandboxError(f"kubectl {' '.join(arguments)}: {err.decode(errors='replace').strip()}")
