"""Pods on a cluster's fake nodes, by a client that does nothing but make them: the floor that a farm is measured beside. And what the API
server says of a namespace and of its own work. Used by `farm_cluster`.

One list and one watch; creation with bounded concurrency. What is counted is what the API server tells.
"""

import asyncio
import base64
import json
import re
import secrets
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from envfarm.core.errors import SandboxError

AT_ONCE = 64
READY_S = 300.0
GONE_S = 600.0


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

    async def make_pod(self, body: dict[str, Any]) -> None:
        """Ask for a pod."""
        async with self._slots:
            await self._call("POST", f"{self._path}/pods", body)

    async def count(self, kind: str = "pods") -> int:
        """How many there are, whatever their state."""
        group = "apis/coordination.k8s.io/v1" if kind == "leases" else "api/v1"
        said = await self._call("GET", f"/{group}/namespaces/{self.name}/{kind}?limit=1")
        return len(said["items"]) + int(said["metadata"].get("remainingItemCount", 0))

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
    try:
        yield made
    finally:
        await asyncio.shield(made._call("DELETE", f"/api/v1/namespaces/{name}", missing_ok=True))


async def requests_so_far(client: httpx.AsyncClient) -> Counter[str]:
    """The API server's own count, by verb and resource, and by status where that is no success: everybody's, not this namespace's alone."""
    found: Counter[str] = Counter()
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith("apiserver_request_total{"):
            marks = dict(re.findall(r'(\w+)="([^"]*)"', line))
            what = f"{marks['verb']} {marks['resource']}" + (f"/{marks['subresource']}" if marks["subresource"] else "")
            code = "" if marks["code"] in {"0", "200", "201"} else f" {marks['code']}"
            found[what + code] += int(float(line.rsplit(" ", 1)[1]))
    return found


async def bare(client: httpx.AsyncClient, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """The floor: these pods made, run and deleted, by nobody but this client."""
    pods = len(bodies)
    async with namespace(client) as ours:
        watching = asyncio.create_task(ours.watch())
        try:
            before, began = await requests_so_far(client), time.perf_counter()
            await asyncio.gather(*map(ours.make_pod, bodies))
            made_s = time.perf_counter() - began
            await ours.until(lambda seen: len(seen.addresses) >= pods, READY_S)
            ready_s, deleting = time.perf_counter() - began, time.perf_counter()
            after = await requests_so_far(client)
            await ours.delete_all()
            await ours.until(lambda seen: not seen.alive, GONE_S)
        finally:
            watching.cancel()
        return {
            "bare client, pods: asked, made": f"{pods}, {len(ours.seen.made)}",
            "bare client, created per s": pods / made_s,
            "bare client, running per s": pods / ready_s,
            "bare client, deleted per s": pods / (time.perf_counter() - deleting),
            "bare client, API requests per pod": sum((after - before).values()) / pods,
        }


def _text(said: dict[str, Any], key: str) -> str | None:
    return base64.b64decode(said[key]).decode() if said.get(key) else None


def _file(said: dict[str, Any], key: str, folder: Path) -> str:
    if said.get(key):
        return str(said[key])
    (folder / key).write_bytes(base64.b64decode(said[f"{key}-data"]))
    return str(folder / key)
