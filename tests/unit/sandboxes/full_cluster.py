"""An API server with pods that are posted and never placed, for tests of what a provider of pods makes of a cluster."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
NO_NODE = {"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}


class FullCluster:
    """Pods as they were posted, none of them placed, and those that a test puts there."""

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.events: list[Json] = []
        self.deleted: set[str] = set()
        self.watch_s = 5.0
        """After so long without news it ends a watch."""
        self.watches = 0
        self.most_listed = 0
        """Pods in one answer."""
        self.changed = threading.Condition()
        self.about: Callable[[str, str], Json] = lambda *_: {"items": []}
        """What it says of leases and nodes, by method and path."""
        self.refuses: Callable[[str, str], Json | None] = lambda *_: None
        """A refusal as it is told (a `Status` with its `code`), or None, by method and path."""

    def run(self, name: str, **labels: str) -> None:
        """A pod of the farm that runs, younger than those before."""
        said = {"envfarm.dev/part": "box", "envfarm.dev/farm": "envfarm", **{f"envfarm.dev/{k}": v for k, v in labels.items()}}
        born = f"2026-01-01T00:00:{len(self.pods):02}Z"
        metadata = {"name": name, "labels": said, "resourceVersion": "1", "creationTimestamp": born}
        self.pods[name] = {"metadata": metadata, "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}

    def becomes(self, name: str, status: Json) -> None:
        """A pod that was posted has this status from now on, and its watchers hear it."""
        with self.changed:
            pod = {**self.pods[name], "status": status}
            pod["metadata"] = {**pod["metadata"], "resourceVersion": str(len(self.events) + 1)}
            self.pods[name] = pod
            self.events.append({"type": "MODIFIED", "object": pod})
            self.changed.notify_all()

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> Any:
        name = path.rpartition("/")[2]
        if "/leases" in path or "/nodes/" in path:
            return self.about(method, path)
        if query.get("watch"):
            self.watches += 1
            return self._events(int(query["resourceVersion"]))
        if method == "POST":
            with self.changed:
                body["metadata"]["resourceVersion"] = str(len(self.events) + 1)
                body["status"] = {"phase": "Pending", "conditions": [NO_NODE]}
                self.pods[body["metadata"]["name"]] = body
                self.events.append({"type": "ADDED", "object": body})
                self.changed.notify_all()
            return body
        if method in {"PATCH", "DELETE"}:
            return self._patch(name, body) if method == "PATCH" else self._delete(name, body)
        if name in self.pods:
            return self.pods[name]
        return self._page([pod for pod in list(self.pods.values()) if self._selected(pod, query)], query)

    def _patch(self, name: str, body: Json) -> Json:
        metadata = self.pods[name]["metadata"]
        metadata["labels"] |= body["metadata"]["labels"]
        metadata["resourceVersion"] += "0"
        return {}

    def _delete(self, name: str, body: Json) -> Json:
        pod, version = self.pods.get(name), (body.get("preconditions") or {}).get("resourceVersion")
        if pod is not None and version not in {None, pod["metadata"]["resourceVersion"]}:
            return {"code": 409, "reason": "Conflict", "message": "the object has been modified"}
        self.pods.pop(name, None)
        self.deleted.add(name)
        return {}

    def _page(self, pods: list[Json], query: dict[str, str]) -> Json:
        first = int(query.get("continue") or 0)
        end = first + int(query.get("limit") or len(pods))
        self.most_listed = max(self.most_listed, len(pods[first:end]))
        return {"items": pods[first:end], "metadata": {"resourceVersion": "0", "continue": str(end) if end < len(pods) else ""}}

    def _events(self, since: int) -> Iterator[Json]:
        """As they come, until none has come for a while."""
        while self._comes(since):
            yield self.events[since]
            since += 1

    def _comes(self, since: int) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: len(self.events) > since, timeout=self.watch_s)

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
            refusal = cluster.refuses(self.command, url.path)
            if query.get("watch"):
                self._watched(cluster.answer(self.command, url.path, query, body))
                return
            said = refusal or cluster.answer(self.command, url.path, query, body)
            content = json.dumps(said).encode()
            self.send_response(said.get("code", 200))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _watched(self, events: Iterator[Json]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(OSError):  # whoever watched has gone
                for line in chain((json.dumps(each).encode() + b"\n" for each in events), [b""]):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

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
