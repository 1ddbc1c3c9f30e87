"""Pods on a cluster's fake nodes, by a client that does nothing but make them: the floor that a farm is measured beside, and, with the
simulator behind the pods' addresses, boxes for the farm until a provider of pods is there.

One list and one watch per namespace; creation with bounded concurrency. What is counted is what the API server tells.
"""

import asyncio
import base64
import json
import secrets
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from envfarm.core.errors import SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.protocols import BlobStore
from envfarm.core.sandbox import OwnedBox, SandboxSpec
from envfarm.sandboxes.boxd_client import BoxAccess, BoxdBox
from envfarm.sandboxes.boxd_connection import Endpoint
from envfarm.testing.boxd_simulator.provider import deliver

AT_ONCE = 64
READY_S = 300.0
GONE_S = 600.0
FAKE = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}


@dataclass
class Seen:
    """What a namespace's watch told."""

    made: set[str] = field(default_factory=set)
    """The uid of every pod that there ever was."""
    addresses: dict[str, str] = field(default_factory=dict)
    """Name → address, of those that run."""
    alive: set[str] = field(default_factory=set)
    most: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class Namespace:
    """One namespace of its own, watched."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.name = name
        self.seen = Seen()
        self._client = client
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._path = f"/api/v1/namespaces/{name}"

    async def make_pod(self, name: str, annotations: dict[str, str] | None = None) -> None:
        """Ask for a pod on a fake node."""
        body = {
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {
                "nodeSelector": {"type": "kwok"},
                "tolerations": [FAKE],
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "box", "image": "simulated", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}],
            },
        }
        async with self._slots:
            await self._call("POST", f"{self._path}/pods", body)

    async def delete_pod(self, name: str) -> None:
        """Delete one; no error when it is gone."""
        async with self._slots:
            await self._call("DELETE", f"{self._path}/pods/{name}", {"gracePeriodSeconds": 0}, missing_ok=True)

    async def delete_all(self) -> None:
        """Delete every pod with one request."""
        await self._call("DELETE", f"{self._path}/pods", {"gracePeriodSeconds": 0})

    async def until(self, holds: Any, within_s: float) -> None:
        """Wait for what the watch tells. Raises `TimeoutError`."""
        async with asyncio.timeout(within_s), self.seen.changed:
            await self.seen.changed.wait_for(lambda: holds(self.seen))

    async def watch(self) -> None:
        """One list, then one watch, for as long as this runs."""
        listed = await self._call("GET", f"{self._path}/pods")
        version = listed["metadata"]["resourceVersion"]
        while True:
            query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
            async with self._client.stream("GET", f"{self._path}/pods", params=query, timeout=None) as reply:
                async for line in reply.aiter_lines():
                    said = json.loads(line)
                    if said["type"] == "ERROR":
                        raise SandboxError(f"the watch on {self.name} ended: {said['object'].get('message')}")
                    version = said["object"]["metadata"]["resourceVersion"]
                    if said["type"] != "BOOKMARK":
                        await self._take(said["type"], said["object"])

    async def _take(self, kind: str, pod: dict[str, Any]) -> None:
        name, seen = pod["metadata"]["name"], self.seen
        async with seen.changed:
            if kind == "DELETED":
                seen.alive.discard(name)
                seen.addresses.pop(name, None)
            else:
                seen.made.add(pod["metadata"]["uid"])
                seen.alive.add(name)
                seen.most = max(seen.most, len(seen.alive))
                if pod["status"].get("phase") == "Running" and pod["status"].get("podIP"):
                    seen.addresses[name] = pod["status"]["podIP"]
            seen.changed.notify_all()

    async def _call(self, method: str, path: str, body: object = None, *, missing_ok: bool = False) -> Any:
        while True:
            reply = await self._client.request(method, path, json=body)
            if reply.status_code != 429:
                break
            await asyncio.sleep(float(reply.headers.get("Retry-After", "1")))
        if reply.status_code >= 300 and not (missing_ok and reply.status_code == 404):
            raise SandboxError(f"{method} {path}: {reply.status_code} {reply.text[:300]}")
        return reply.json()


@asynccontextmanager
async def connected(kubeconfig: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the cluster that a kubeconfig's current context names, by its client certificate."""
    said = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
    context = next(c["context"] for c in said["contexts"] if c["name"] == said["current-context"])
    cluster = next(c["cluster"] for c in said["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in said["users"] if u["name"] == context["user"])
    trust = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=_text(cluster, "certificate-authority-data"))
    with tempfile.TemporaryDirectory() as folder:
        files = [_file(user, key, Path(folder)) for key in ("client-certificate", "client-key")]
        trust.load_cert_chain(*files)
    limits = httpx.Limits(max_connections=AT_ONCE + 8, max_keepalive_connections=AT_ONCE + 8)
    async with httpx.AsyncClient(base_url=cluster["server"], verify=trust, limits=limits, timeout=60, trust_env=False) as client:
        yield client


@asynccontextmanager
async def namespace(client: httpx.AsyncClient) -> AsyncIterator[Namespace]:
    """A new namespace, gone after the block, whatever happens in it."""
    name = f"envfarm-bench-{secrets.token_hex(4)}"
    made = Namespace(client, name)
    await made._call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    watching = asyncio.create_task(made.watch())
    try:
        yield made
    finally:
        watching.cancel()
        await asyncio.shield(made._call("DELETE", f"/api/v1/namespaces/{name}", missing_ok=True))


async def requests_so_far(client: httpx.AsyncClient) -> Counter[str]:
    """The API server's own count, by verb and resource: everybody's, not this namespace's alone."""
    found: Counter[str] = Counter()
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith("apiserver_request_total{"):
            marks = dict(pair.split("=", 1) for pair in line.split("{")[1].split("}")[0].split(",") if "=" in pair)
            found[f"{marks['verb']} {marks['resource']}".replace('"', "")] += int(float(line.rsplit(" ", 1)[1]))
    return found


async def bare(kubeconfig: Path, pods: int) -> dict[str, Any]:
    """The floor: so many pods made, run and deleted, by nobody but this client."""
    async with connected(kubeconfig) as client, namespace(client) as ours:
        before, began = await requests_so_far(client), time.perf_counter()
        await asyncio.gather(*(ours.make_pod(f"bare-{n}") for n in range(pods)))
        made_s = time.perf_counter() - began
        await ours.until(lambda seen: len(seen.addresses) >= pods, READY_S)
        ready_s, deleting = time.perf_counter() - began, time.perf_counter()
        after = await requests_so_far(client)
        await ours.delete_all()
        await ours.until(lambda seen: not seen.alive, GONE_S)
        return {
            "pods: asked, made": f"{pods}, {len(ours.seen.made)}",
            "created per s": pods / made_s,
            "all running after s": ready_s,
            "zero pods after s": time.perf_counter() - deleting,
            "API requests per pod": sum((after - before).values()) / pods,
        }


class PodBoxes:
    """Boxes that are pods on fake nodes, with the simulator at their addresses. Implements `SandboxProvider` for the bench alone."""

    name = "pods"

    def __init__(self, ours: Namespace, port: int, blobs: BlobStore, *, prefix: str) -> None:
        self._ours = ours
        self._port = port
        self._blobs = blobs
        self._prefix = prefix
        self._made = 0
        self._owned: dict[BoxId, OwnedBox] = {}

    async def create(self, spec: SandboxSpec) -> BoxdBox:
        """See `SandboxProvider.create`."""
        checkout = await self._blobs.get(spec.environment.checkout.digest) if spec.environment.checkout else b""
        self._made += 1
        box, token, seen = BoxId(f"{self._prefix}-{self._made}"), secrets.token_urlsafe(32), self._ours.seen
        self._owned[box] = OwnedBox(box_id=box, **spec.model_dump(include={"owner", "run_id", "episode_id", "deadline"}))
        await self._ours.make_pod(box, {"envfarm.dev/episode": spec.episode_id})
        try:
            await self._ours.until(lambda told: box in told.addresses, READY_S)
        except TimeoutError as e:
            raise SandboxError(f"pod {box} does not run") from e
        endpoint = Endpoint(host=seen.addresses[box], port=self._port)
        await deliver(endpoint, token, {"epoch": spec.epoch, "work_dir": spec.environment.work_dir})
        made = BoxdBox(box, BoxAccess(endpoint, token, spec.epoch, lambda: box in seen.alive, lambda: self.destroy(box)))
        if checkout:
            await made.put(checkout)
        return made

    async def list_owned(self, owner: str) -> Sequence[OwnedBox]:
        """See `SandboxProvider.list_owned`."""
        return [owned for owned in self._owned.values() if owned.owner == owner]

    async def destroy(self, box: BoxId) -> None:
        """See `SandboxProvider.destroy`."""
        if self._owned.pop(box, None) is not None:
            await self._ours.delete_pod(box)


def _text(said: dict[str, Any], key: str) -> str | None:
    return base64.b64decode(said[key]).decode() if said.get(key) else None


def _file(said: dict[str, Any], key: str, folder: Path) -> str:
    if said.get(key):
        return str(said[key])
    (folder / key).write_bytes(base64.b64decode(said[f"{key}-data"]))
    return str(folder / key)
