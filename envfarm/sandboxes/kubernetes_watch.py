"""What the cluster says of one maker's pods, as it says it: a list, then one watch, in a thread of its own. Used by `kubernetes`.

Everything that waits for a pod waits here, on the event loop, and nothing asks again and again. After a gap (410 Gone, a lost connection
with too old a version) a new list tells what happened meanwhile; pods that are missing in it count as deleted.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import TypeVar

import urllib3

from envfarm.core.errors import SandboxError
from envfarm.sandboxes.kubernetes_api import Json, KubernetesApi, Refused, Stop, Uncertain

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0
LIST_PAGE = 500
T = TypeVar("T")
log = logging.getLogger(__name__)


class PodWatch:
    """A table of pods by name, kept current. `start` it in the event loop that will use it."""

    def __init__(self, api: KubernetesApi, selector: str, *, changed: Callable[[str, Json, bool], None]) -> None:
        """`changed` is called in the loop with a pod's name, what it is or last was, and whether it is gone."""
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
        """Begin; safe to call again."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="kubernetes-watch", daemon=True)
            self._thread.start()

    async def ready(self, *, timeout_s: float) -> None:
        """Wait for the first list. Raises `SandboxError` when the cluster does not give one in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._listed.wait()
        except TimeoutError as e:
            hint = f"may this account list and watch pods in {self._api.namespace!r}? What the server said is in the log"
            raise SandboxError(f"{self._api.host} does not list pods within {timeout_s:.0f} s", hint=hint) from e

    async def stop(self) -> None:
        """End the watch and wait for its thread."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def pod(self, name: str) -> Json | None:
        """A pod as it was last seen; None when it is not there."""
        return self._pods.get(name)

    async def until(self, name: str, judge: Callable[[Json], T | None], *, timeout_s: float) -> T:
        """Wait until `judge` says something of the pod; what it raises is raised. `TimeoutError` at the end."""
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
        """The thread: list, watch, and begin again, until it is stopped."""
        version, wait_s = "", FIRST_WAIT_S
        while not self._stop.is_set:
            try:
                if not version:
                    pods, version = self._list()
                    self._hand(self._replace, pods)
                version = self._follow(version)
                wait_s = FIRST_WAIT_S
                continue
            except Refused as e:
                if e.status == HTTPStatus.GONE:
                    version = ""
                else:
                    log.warning("the watch of pods is refused: %s", e)
            except (urllib3.exceptions.HTTPError, OSError, ValueError, Uncertain) as e:
                if not self._stop.is_set:
                    log.info("the watch of pods broke off: %s", e)
            except Exception:  # the thread is a boundary: without it no loss would be seen any more
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
        """Hand on every event; the version to go on from."""
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
    """What `kubernetes_status` reads of a pod. The whole is several times as large, and a host may have thousands."""
    metadata = {key: value for key, value in pod["metadata"].items() if key in {"name", "deletionTimestamp"}}
    spec = {key: value for key, value in (pod.get("spec") or {}).items() if key == "nodeName"}
    return {"metadata": metadata, "spec": spec, "status": pod.get("status") or {}}
