"""What a provider of pods does in a cluster that has no place for them: an API server that takes pods, and places none."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from envfarm.core import digest
from envfarm.core.errors import SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.kubernetes import KubernetesProvider, _Blank
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.testing.blobs import MemoryBlobs

Json = dict[str, Any]
SPEC = SandboxSpec(environment=Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(b"i"), reference="r/i@sha256:1")))
NO_NODE = {"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}


class FullCluster:
    """Pods as they were posted, none of them placed, and those that a test puts there."""

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.events: list[Json] = []
        self.deleted: set[str] = set()
        self.changed = threading.Condition()

    def run(self, name: str, **labels: str) -> None:
        """A pod of the farm that runs."""
        said = {"envfarm.dev/part": "box", "envfarm.dev/farm": "envfarm", **{f"envfarm.dev/{k}": v for k, v in labels.items()}}
        self.pods[name] = {"metadata": {"name": name, "labels": said}, "status": {"phase": "Running"}}

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> Any:
        name = path.rpartition("/")[2]
        if "/leases" in path:
            return {"items": []}
        if query.get("watch"):
            return self._events(int(query["resourceVersion"]))
        if method == "POST":
            with self.changed:
                body["metadata"]["resourceVersion"] = str(len(self.events) + 1)
                body["status"] = {"phase": "Pending", "conditions": [NO_NODE]}
                self.pods[body["metadata"]["name"]] = body
                self.events.append({"type": "ADDED", "object": body})
                self.changed.notify_all()
            return body
        if method == "DELETE":
            self.pods.pop(name, None)
            self.deleted.add(name)
            return {}
        return {"items": [pod for pod in list(self.pods.values()) if self._selected(pod, query)], "metadata": {"resourceVersion": "0"}}

    def _events(self, since: int) -> list[Json]:
        with self.changed:
            self.changed.wait_for(lambda: len(self.events) > since, timeout=0.1)
            return self.events[since:]

    def _selected(self, pod: Json, query: dict[str, str]) -> bool:
        for term in query["labelSelector"].split(","):
            key, is_not, value = term.partition("!=") if "!=" in term else term.partition("=")
            if (pod["metadata"]["labels"].get(key) == value) is (is_not == "!="):
                return False
        return "fieldSelector" not in query or pod["status"]["phase"] == "Running"


@contextmanager
def served(cluster: FullCluster, kubeconfig: Path) -> Iterator[None]:
    class Connection(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            url = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            said = cluster.answer(self.command, url.path, query, body)
            content = b"".join(json.dumps(each).encode() + b"\n" for each in (said if isinstance(said, list) else [said]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 - the server's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Connection)
    http.daemon_threads = True
    thread = threading.Thread(target=lambda: http.serve_forever(poll_interval=0.01))
    thread.start()
    said = {
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{http.server_port}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    kubeconfig.write_text(json.dumps(said))
    try:
        yield
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@asynccontextmanager
async def provided(cluster: FullCluster, path: Path, *, start_s: float) -> AsyncIterator[KubernetesProvider]:
    with served(cluster, path / "kubeconfig"):
        options = KubernetesOptions(boxd_image="r/b", kubeconfig=str(path / "kubeconfig"), start_s=start_s, warm=4, creates_at_once=2)
        provider = KubernetesProvider(options, MemoryBlobs())
        try:
            yield provider
        finally:
            await provider.aclose()


async def waits_for(*, posted: int, cluster: FullCluster) -> None:
    while len(cluster.events) < posted:  # noqa: ASYNC110 - the server is another thread's
        await asyncio.sleep(0.01)


async def ended(*making: "asyncio.Task[Any]") -> None:
    for task in making:
        task.cancel()
    await asyncio.gather(*making, return_exceptions=True)


async def test_every_pod_that_is_nobodys_gives_way_while_one_waits(tmp_path: Path) -> None:
    cluster = FullCluster()
    async with provided(cluster, tmp_path, start_s=60) as provider:
        for name in ("blank-1", "blank-2", "blank-3"):
            provider._gone[BoxId(name)] = asyncio.get_running_loop().create_future()
            provider.warm._keep("another size", _Blank(BoxId(name), "", "", 0.0, {}))
        making = asyncio.create_task(provider.create(SPEC))
        while not provider._room.full:  # noqa: ASYNC110 - the watch is another thread's
            await asyncio.sleep(0.01)
        while provider.warm.idle:
            provider.foresee([SPEC])
            await asyncio.sleep(0.01)
        assert len(cluster.events) == 1  # none was asked for ahead
        await ended(making)
    assert {"blank-1", "blank-2", "blank-3"} <= cluster.deleted


async def test_a_pod_that_is_nobodys_is_no_reason_to_wait_for_longer(tmp_path: Path) -> None:
    cluster = FullCluster()
    cluster.run("blank", owner="")
    async with provided(cluster, tmp_path, start_s=1) as provider:
        with pytest.raises(SandboxError, match="Insufficient memory"):
            await provider.create(SPEC)


async def test_boxes_without_a_place_let_others_be_asked_for_while_any_runs(tmp_path: Path) -> None:
    cluster = FullCluster()
    cluster.run("box", owner="envfarm")
    async with provided(cluster, tmp_path, start_s=1) as provider:
        before = provider.places
        making = [asyncio.create_task(provider.create(SPEC)) for _ in range(4)]
        await waits_for(posted=4, cluster=cluster)
        assert not any(task.done() for task in making)
        assert provider.places >= before + 2
        await ended(*making)
