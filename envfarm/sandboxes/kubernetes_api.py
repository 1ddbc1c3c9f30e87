"""Requests to a Kubernetes API server, as plain JSON. The only module that imports the Kubernetes client.

The official package finds the cluster and does TLS and authentication; its models are not used, as building them costs more than the
request. A request blocks, so it runs in one of this object's threads. `Retry-After` of 429 and 503 is respected. Requests with an uncertain
result (time-out, lost connection, 5xx) are retried, so every request made here must be safe to repeat.
"""

import asyncio
import contextlib
import email.utils
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from envfarm.core.errors import SandboxError, UsageError
from envfarm.core.retry import retry_after_s
from envfarm.sandboxes.kubernetes_options import KubernetesOptions

Json = dict[str, Any]
CONNECT_S, READ_S = 5.0, 20.0
WATCH_S = 300
"""The server ends a watch after this time; it is then continued from where it was."""
QUIET_S = 90.0
"""The server sends a bookmark per minute to an idle watch; one that is quiet for longer has a dead connection."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0
LIST_PAGE = 500
"""Objects per answer to a list."""
HEEDED_S = 60.0
"""The longest `Retry-After` that is respected."""


class Refused(SandboxError):  # noqa: N818 - an answer, as in `Denied`
    """The API server refused the request."""

    def __init__(self, message: str, *, status: int, reason: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.after_uncertainty = False
        """Whether an earlier try of the same request may have had effect."""


class Uncertain(Exception):  # noqa: N818 - a state, as in `BoxLost`
    """It is unknown whether a try had effect, or the server asks to retry."""

    def __init__(self, what: str, *, wait_s: float | None = None, carried_out: bool = True) -> None:
        super().__init__(what)
        self.wait_s = wait_s
        self.carried_out = carried_out


class KubernetesApi:
    """One API server and one namespace. Connects at the first request."""

    def __init__(self, options: KubernetesOptions) -> None:
        """Raises `UsageError` if no cluster is configured."""
        settings = client.Configuration()
        try:
            _configure(settings, options)
        except (ConfigException, OSError, ValueError) as e:
            hint = "set `kubeconfig` in the options, or KUBECONFIG, or run in a pod with a service account"
            raise UsageError(f"no Kubernetes cluster is configured: {e}", hint=hint) from e
        settings.retries = False
        settings.connection_pool_maxsize = options.calls_at_once + 2
        self._settings = settings
        self._rest = client.ApiClient(settings).rest_client
        self._threads = ThreadPoolExecutor(options.calls_at_once, thread_name_prefix="kubernetes-api")
        self._clock_offset_s = 0.0
        self.host: str = settings.host
        self.namespace = options.namespace

    def path(self, kind: str, name: str = "") -> str:
        """The path of a resource in the namespace: `pods`, `leases`."""
        group = "apis/coordination.k8s.io/v1" if kind == "leases" else "api/v1"
        return f"/{group}/namespaces/{self.namespace}/{kind}" + (f"/{quote(name, safe='')}" if name else "")

    def node_lease(self, node: str) -> str:
        """The path of the lease that a node's kubelet renews."""
        return f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{quote(node, safe='')}"

    def now(self) -> float:
        """The API server's time, in seconds since the epoch, according to its last answer."""
        return time.time() + self._clock_offset_s

    async def ask(
        self, method: str, path: str, body: Json | None = None, *, query: Mapping[str, str] | None = None, within_s: float = 60.0
    ) -> Json:
        """A request, retried for `within_s` while its result is uncertain. Raises `Refused`, and `SandboxError` at the end.

        If a change is cancelled while the server handles it, its end is awaited: a following request must not overtake it.
        """
        until = time.monotonic() + within_s
        wait_s, uncertain = FIRST_WAIT_S, False
        while True:
            calling = self._threads.submit(self.call, method, path, body, query)
            try:
                return await asyncio.wrap_future(calling)
            except asyncio.CancelledError:
                if method != "GET":
                    await _over(calling)
                raise
            except Refused as e:
                e.after_uncertainty = uncertain
                raise
            except Uncertain as e:
                uncertain = uncertain or e.carried_out
                pause_s = min(HEEDED_S, e.wait_s) if e.wait_s is not None else wait_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                if time.monotonic() + pause_s > until:
                    raise SandboxError(f"Kubernetes did not answer {method} {path}: {e}", hint=f"check that {self.host} is up") from e
                await asyncio.sleep(pause_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def every(self, kind: str, selector: str, *, within_s: float = 60.0) -> list[Json]:
        """All objects of a kind with these labels, asked for in pages, each within so long. Raises as `ask` does."""
        found: list[Json] = []
        query = {"labelSelector": selector, "limit": str(LIST_PAGE)}
        while True:
            page = await self.ask("GET", self.path(kind), query=query, within_s=within_s)
            found += page.get("items") or ()
            if not (more := (page.get("metadata") or {}).get("continue")):
                return found
            query["continue"] = more

    def call(self, method: str, path: str, body: Json | None = None, query: Mapping[str, str] | None = None) -> Json:
        """One try, blocking. Raises `Refused`, or `Uncertain`, which `ask` retries."""
        try:
            response = self._send(method, path, body, query, timeout=urllib3.Timeout(connect=CONNECT_S, read=READ_S))
        except urllib3.exceptions.HTTPError as e:
            refused = isinstance(e, urllib3.exceptions.NewConnectionError)
            raise Uncertain(f"{type(e).__name__}: {e}", carried_out=not refused) from e
        self._note_time(response.headers.get("Date", ""))
        return _read(response.status, response.headers, response.data, f"{method} {path}")

    def watch(self, path: str, *, query: Mapping[str, str], stop: "Stop") -> Iterator[Json]:
        """Events until the server ends the watch, or `stop`. Blocking. Raises `Refused` and `urllib3.exceptions.HTTPError`."""
        asked = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S), **query}
        timeout = urllib3.Timeout(connect=CONNECT_S, read=QUIET_S)
        response = self._send("GET", path, None, asked, timeout=timeout, preload_content=False)
        try:
            if response.status != HTTPStatus.OK:
                _read(response.status, response.headers, response.data, f"watch {path}")
            stop.attach(response)
            rest = b""
            for piece in response.stream(64 << 10, decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line:
                        yield json.loads(line)
        finally:
            stop.detach()
            response.close()

    def _send(self, method: str, path: str, body: Json | None, query: Mapping[str, str] | None, **more: Any) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "envfarm"}
        auths: Any = self._settings.auth_settings()  # each time, since this renews tokens
        for auth in auths.values():
            if auth["in"] == "header" and auth["value"]:
                headers[auth["key"]] = auth["value"]
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        return self._rest.pool_manager.request(method, url, body=data, headers=headers, retries=False, **more)

    def _note_time(self, date: str) -> None:
        if date:
            self._clock_offset_s = email.utils.parsedate_to_datetime(date).timestamp() - time.time()

    def close(self) -> None:
        """Release threads and connections without waiting for requests in progress."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._rest.pool_manager.clear()


class Stop:
    """Ends a watch from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._response: Any = None
        self._event = threading.Event()

    @property
    def is_set(self) -> bool:
        """Whether a stop was requested."""
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for a request to stop, at most so long. Returns whether there was one."""
        return self._event.wait(timeout_s)

    def set(self) -> None:
        """Request to stop."""
        with self._lock:
            self._event.set()
            self._cut()

    def attach(self, response: Any) -> None:
        """A watch has begun."""
        with self._lock:
            self._response = response
            if self._event.is_set():
                self._cut()

    def detach(self) -> None:
        """A watch has ended."""
        with self._lock:
            self._response = None

    def _cut(self) -> None:
        if self._response is not None:
            try:
                self._response.shutdown()
            except (RuntimeError, ValueError, OSError):
                return  # it had ended by itself


async def _over(calling: Future[Json]) -> None:
    """Wait until a thread's call has ended, despite cancellations. A call that has not begun is cancelled."""
    calling.cancel()
    seen = asyncio.wrap_future(calling)
    while not seen.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({seen})
    if not seen.cancelled():
        seen.exception()  # retrieved, so that it is not logged as unhandled


def _configure(settings: Any, options: KubernetesOptions) -> None:
    load_file: Any = config.load_kube_config
    load_in_cluster: Any = config.load_incluster_config
    file, context = options.kubeconfig or None, options.context or None
    try:
        load_file(config_file=file, context=context, client_configuration=settings)
    except ConfigException:
        if file or context:
            raise
        load_in_cluster(client_configuration=settings)


def _read(status: int, headers: Mapping[str, str], data: bytes, what: str) -> Json:
    try:
        said = json.loads(data)
    except ValueError:
        said = {}
    body: Json = said if isinstance(said, dict) else {}
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return body
    told = str(body.get("message") or data[:200].decode(errors="replace"))
    wait_s = retry_after_s(headers.get("Retry-After"), headers.get("Date"))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Uncertain(told or "too many requests", wait_s=wait_s, carried_out=False)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Uncertain(f"{status}: {told}", wait_s=wait_s)
    raise Refused(f"Kubernetes refused {what}: {told}", status=status, reason=str(body.get("reason", "")))
