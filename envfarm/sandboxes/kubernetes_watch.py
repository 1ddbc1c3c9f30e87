"""The current state of one maker's pods: a list, then one watch, in its own thread.

Whatever waits for a pod waits here, on the event loop; nothing polls. After a gap (410 Gone, a lost connection with too old a version) a
new list shows what happened meanwhile; pods missing from it count as deleted.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import urllib3

from envfarm.core.errors import SandboxError
from envfarm.sandboxes.kubernetes_api import LIST_PAGE, Json, KubernetesApi, Refused, Stop, Uncertain

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0
SHORT_S = 1.0
"""A watch that the server ends sooner, and that brought nothing, is not asked for again at once."""
T = TypeVar("T")
log = logging.getLogger(__name__)


class PodWatch:
    """A table of pods by name, kept current. `start` it in the event loop that uses it."""

    def __init__(self, api: KubernetesApi, selector: str, *, changed: Callable[[str, Json, bool], None]) -> None:
        """`changed` is called in the loop with a pod's name, its current or last state, and whether it is gone."""
        self._api = api
        self._selector = selector
        self._changed = changed
        self._pods: dict[str, Json] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._stop = Stop()
        self._thread: threading.Thread | None = None
        self._listed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start; may be called again."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="kubernetes-watch", daemon=True)
            self._thread.start()

    async def ready(self, *, timeout_s: float) -> None:
        """Wait for the first list. Raises `SandboxError` if it does not come in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._listed.wait()
        except TimeoutError as e:
            hint = f"check that this account may list and watch pods in {self._api.namespace!r}; the log has the server's answer"
            raise SandboxError(f"{self._api.host} did not list pods within {timeout_s:.0f} s", hint=hint) from e

    async def stop(self) -> None:
        """End the watch and wait for its thread."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def pod(self, name: str) -> Json | None:
        """A pod as last seen; None if it does not exist."""
        return self._pods.get(name)

    async def until(self, name: str, judge: Callable[[Json], T | None], *, timeout_s: float) -> T:
        """Wait until `judge` returns a value for the pod. Raises what `judge` raises, and `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while True:
                pod = self._pods.get(name)
                verdict = judge(pod) if pod is not None else None
                if verdict is not None:
                    return verdict
                changed = asyncio.get_running_loop().create_future()
                self._waiting.setdefault(name, set()).add(changed)
                try:
                    await changed
                finally:
                    waiting = self._waiting.get(name, set())
                    waiting.discard(changed)
                    if not waiting:
                        self._waiting.pop(name, None)

    def _take(self, pod: Json, *, gone: bool = False) -> None:
        name = pod["metadata"]["name"]
        if gone:
            self._pods.pop(name, None)
        else:
            self._pods[name] = pod
        for waiting in self._waiting.get(name, ()):
            if not waiting.done():
                waiting.set_result(None)
        self._changed(name, pod, gone)

    def _replace(self, pods: list[Json]) -> None:
        present = {pod["metadata"]["name"] for pod in pods}
        for name in [name for name in self._pods if name not in present]:
            self._take(self._pods[name], gone=True)
        for pod in pods:
            self._take(pod)
        self._listed.set()

    def _hand(self, call: Callable[..., None], *arguments: object) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *arguments)

    def _run(self) -> None:
        """The thread: list, watch, and start over, until it is stopped."""
        version, wait_s = "", FIRST_WAIT_S
        while not self._stop.is_set:
            try:
                if not version:
                    pods, version = self._list()
                    self._hand(self._replace, pods)
                began, before = time.monotonic(), version
                version = self._follow(version)
                if version != before or time.monotonic() - began > SHORT_S:
                    wait_s = FIRST_WAIT_S
                    continue
            except Refused as e:
                if e.status == HTTPStatus.GONE:
                    version = ""
                else:
                    log.warning("the watch of pods was refused: %s", e)
            except (urllib3.exceptions.HTTPError, OSError, ValueError, Uncertain) as e:
                if not self._stop.is_set:
                    log.info("the watch of pods was interrupted: %s", e)
            except Exception:  # the thread is a boundary: without it no lost pod would be noticed
                version = ""
                log.exception("the watch of pods failed")
            self._stop.wait(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _list(self) -> tuple[list[Json], str]:
        found: list[Json] = []
        query = {"labelSelector": self._selector, "limit": str(LIST_PAGE)}
        while True:
            page = self._api.call("GET", self._api.path("pods"), query=query)
            found += map(_kept, page.get("items") or [])
            if not (more := page["metadata"].get("continue")):
                return found, str(page["metadata"]["resourceVersion"])
            query["continue"] = more

    def _follow(self, version: str) -> str:
        """Pass on every event. Returns the version to continue from."""
        query = {"labelSelector": self._selector, "resourceVersion": version}
        for event in self._api.watch(self._api.path("pods"), query=query, stop=self._stop):
            thing = event["object"]
            if event["type"] == "ERROR":
                status = int(thing.get("code") or 0)
                raise Refused(str(thing.get("message", "the watch failed")), status=status, reason=str(thing.get("reason", "")))
            version = thing["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._hand(partial(self._take, _kept(thing), gone=event["type"] == "DELETED"))
        return version


def _kept(pod: Json) -> Json:
    """The part of a pod that `kubernetes_status` reads. A whole pod is several times as large, and a host may have thousands."""
    metadata = {key: value for key, value in pod["metadata"].items() if key in {"name", "deletionTimestamp"}}
    spec = {key: value for key, value in (pod.get("spec") or {}).items() if key == "nodeName"}
    return {"metadata": metadata, "spec": spec, "status": pod.get("status") or {}}
