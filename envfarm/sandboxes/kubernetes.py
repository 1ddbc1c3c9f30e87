"""Boxes as Kubernetes pods.

The cluster creates and removes pods, and a watch reports their state. Commands and files go directly to boxd at the pod's address, never
through the API server. So this process must reach pods: it runs in the cluster or on its network.
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, NamedTuple

from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError, ImageError, SandboxError
from envfarm.core.ids import BoxId, ExecId
from envfarm.core.protocols import BlobStore
from envfarm.core.sandbox import ExecRequest, Network, SandboxSpec
from envfarm.sandboxes import kubernetes_pod, kubernetes_status, local_seccomp
from envfarm.sandboxes.boxd_client import BoxAccess, BoxdBox
from envfarm.sandboxes.boxd_connection import Endpoint, NoRoom
from envfarm.sandboxes.cluster_room import ClusterRoom
from envfarm.sandboxes.docker_plan import READY
from envfarm.sandboxes.kubernetes_api import Json, KubernetesApi, Refused
from envfarm.sandboxes.kubernetes_evidence import EVIDENCE_S, NodeEvidence
from envfarm.sandboxes.kubernetes_lease import MakerLease
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_pod import AGENT, AREAS_READY, DOMAIN, PORT, Maker
from envfarm.sandboxes.kubernetes_removal import PodRemoval
from envfarm.sandboxes.kubernetes_walls import NetworkProof
from envfarm.sandboxes.kubernetes_watch import PodWatch
from envfarm.sandboxes.warm_pool import WarmPool

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""From Go's name of an architecture to the kernel's."""
FIRST_LIST_S = 30.0
ANSWER_S = 20.0
PROOF_S = 15.0
"""How long a network policy may take to become effective for a new pod."""
WAY_BROKEN_S = 45.0
"""How long a running pod may refuse connections before it counts as lost: its network may recover in this time."""
PROBE_START_S, PROBE_ANSWER_S = 20.0, 25.0
"""How long a pod that is made to be asked may take to run, and then to answer."""
STRAY_AFTER_S, STRAY_AGAIN_S = 1.0, 60.0
"""A pod that belongs to nobody is removed after the first time, since the watch lags behind; retries are at most the second apart."""
LAST_LOOK_S = 10.0
"""How long this maker tries to remove its remaining pods when it closes."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
"""Waits between tries to create a pod beyond the quota: there is nothing to watch for a quota."""
PAGE = 100
"""Pods of other makers among which an idle one is chosen."""
log = logging.getLogger(__name__)


class _Blank(NamedTuple):
    """A pod that nobody has claimed yet."""

    box_id: BoxId
    token: str
    address: str
    made_at: float
    """By the cluster's clock, in seconds since the epoch."""
    said: dict[str, Any]
    """Its boxd's answer to the health check."""


class _Silent(SandboxError):  # noqa: N818 - a state, as in `BoxLost`
    """A pod whose boxd answered before and no longer does."""


class KubernetesProvider:
    """Creates boxes in a cluster. Use it in one event loop and close it; if killed, it leaves what `collect_left_overs` removes."""

    name = "kubernetes"

    def __init__(self, options: KubernetesOptions, blobs: BlobStore, *, key: bytes | None = None) -> None:
        """Providers with the same `key` can adopt each other's boxes. Raises `UsageError` if no cluster is configured."""
        self._key = key or secrets.token_bytes(32)
        self._options = options
        self._blobs = blobs
        self._api = KubernetesApi(options)
        self._maker = Maker(options.farm, secrets.token_hex(6))
        self._lease = MakerLease(self._api, farm=options.farm, maker=self._maker.maker, lease_s=options.lease_s)
        self._removal = PodRemoval(self._api, self._lease, options)
        self._watch = PodWatch(self._api, kubernetes_pod.selector(maker=self._maker.maker), changed=self._changed)
        self._proof = NetworkProof(self._api)
        self._evidence = NodeEvidence(self._api, self._probe)
        self._room = ClusterRoom(options.creates_at_once)
        self._preparing = asyncio.Lock()
        self._prepared = False
        self._made = 0
        self._gone: dict[BoxId, asyncio.Future[EnvfarmError]] = {}
        """For every box that belongs to somebody: in creation, open, or waiting to be claimed."""
        self._open: dict[BoxId, BoxdBox] = {}
        self._left: set[BoxId] = set()
        """For others to adopt."""
        self._background: set[asyncio.Task[None]] = set()
        self._taking: asyncio.Task[None] | None = None
        """Ends a blank of another maker."""
        self._strays: dict[BoxId, asyncio.Task[None]] = {}
        """This maker's pods that belong to nobody, with the tasks that remove them."""
        bounds = {"size": options.warm, "longest_s": kubernetes_pod.LONGEST_AHEAD_S}
        self.warm = WarmPool(self._ahead, self._drop, lives=lambda blank: not self._is_gone(blank.box_id), **bounds)

    async def create(self, spec: SandboxSpec) -> BoxdBox:
        """See `SandboxProvider.create`."""
        _refuse_what_no_pod_can_be(spec)
        await self._prepare()
        checkout = await self._blobs.get(spec.environment.checkout.digest) if spec.environment.checkout else b""
        if kubernetes_pod.lasts(spec, now=self._api.now()) and (blank := await self.warm.take(_key(spec))) is not None:
            self._label_claimed(blank, spec)
            try:
                return await self._claim(blank, spec, checkout)
            except _Silent as e:
                log.warning("pod %s, created ahead, cannot be used; creating another: %s", blank.box_id, e)
        return await self._claim(await self._blank(spec, for_now=True), spec, checkout)

    async def adopt(self, spec: SandboxSpec, box: BoxId, *, but: Sequence[ExecId]) -> BoxdBox | None:
        """See `Adopts.adopt`."""
        await self._prepare()
        if box in self._gone:  # it is this process's own, and about to be closed
            return None
        try:
            pod = await self._api.ask("GET", self._api.path("pods", box), within_s=ANSWER_S)
        except Refused as e:
            if e.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        if not kubernetes_pod.is_adoptable(pod, spec, options=self._options, now=self._api.now()):
            return None
        self._gone[box] = asyncio.get_running_loop().create_future()
        adopted = BoxdBox(box, self._access(box, spec, self._token(box), pod["status"]["podIP"]))
        try:
            if not await self._made_mine(adopted, pod, but):
                return None
            if (await adopted.health()).get("quiesced"):
                await adopted.resume()
            self._open[box] = adopted
            return adopted
        finally:
            if box not in self._open:
                adopted.disconnect()
                if not adopted.fenced:
                    await self._undo(box)

    async def _made_mine(self, adopted: BoxdBox, pod: Json, but: Sequence[ExecId]) -> bool:
        """Label it with this maker, unless one of the commands was begun in it. Whoever else wants it has another epoch, of which the
        highest gets it: boxd is asked again whenever somebody has changed the pod.
        """
        while not await adopted.has_begun(but):
            patch = kubernetes_pod.adoption(self._maker, version=pod["metadata"]["resourceVersion"])
            try:
                await self._api.ask("PATCH", self._api.path("pods", adopted.box_id), patch, within_s=ANSWER_S)
            except Refused as e:
                if e.status != HTTPStatus.CONFLICT:
                    raise
                pod = await self._api.ask("GET", self._api.path("pods", adopted.box_id), within_s=ANSWER_S)
            else:
                return True
        return False

    async def leave(self, box: BoxId) -> None:
        """See `Adopts.leave`. `collect_left_overs` of others removes it once this maker's lease has expired."""
        if (made := self._open.pop(box, None)) is not None:
            made.disconnect()
            self._left.add(box)
            self._room.changed()

    @property
    def maker(self) -> str:
        """The label of every pod that this provider creates."""
        return self._maker.maker

    @property
    def places(self) -> int:
        """See `Places.places`: the open boxes, idle blanks, boxes that wait aside, and the window of boxes in creation."""
        return len(self._open) + self.warm.idle + self._room.aside + self._room.window

    def tell_places(self, listener: Callable[[], None]) -> None:
        """See `Places.tell_places`."""
        self._room.tell(listener)

    @property
    def ahead(self) -> int:
        """See `Foresees.ahead`."""
        return self._options.warm

    def foresee(self, specs: Sequence[SandboxSpec]) -> None:
        """See `Foresees.foresee`. Boxes with an open network are never created ahead, nor any before the first one is created.

        While a needed box waits for a place none is created ahead, and each call ends one idle blank to make room.
        """
        if self._room.full:
            self._make_way()
        if self._prepared:
            self.warm.foresee(_key(spec) for spec in specs if spec.network is not Network.OPEN)

    async def destroy(self, box: BoxId) -> None:
        """See `SandboxProvider.destroy`. Returns when the API server has accepted the deletion; the kubelet kills within two seconds."""
        await self._prepare()
        was_open = self._open.pop(box, None)
        self._end(box, BoxLost("it was destroyed"))
        try:
            if was_open is None or not self._is_anothers(was_open):
                await self._removal.delete(box)
        except BaseException:
            if box in self._gone:
                self._stray(box)
            raise
        finally:
            self._gone.pop(box, None)
            if was_open is not None:
                self._room.changed()

    def _is_anothers(self, made: BoxdBox) -> bool:
        """Whether another process has adopted an open box, or removed it, as far as is known."""
        return made.fenced or self._watch.pod(made.box_id) is None

    async def collect_left_overs(self) -> int:
        """Remove every box of this farm whose maker's lease has expired. Returns how many. Live makers' and other farms' are untouched."""
        await self._prepare()
        return await self._removal.collect()

    async def aclose(self) -> None:
        """Close every open box, the watch, this maker's lease and the connections.

        If a pod may be left, the lease is left to expire, since others find what to collect by expired leases.
        """
        await self.warm.aclose()
        closed = await asyncio.gather(*(box.close() for box in list(self._open.values())), return_exceptions=True)
        for error in closed:
            if error is not None:
                log.warning("a box could not be closed: %s", error)
        await self._evidence.aclose()
        await asyncio.gather(*self._background)
        await self._proof.aclose()
        if self._prepared:
            await self._watch.stop()
            nothing_left = await self._remove_all()
            for task in (removing := [*self._strays.values()]):
                task.cancel()
            await asyncio.gather(*removing, return_exceptions=True)
            await (self._lease.release() if nothing_left else self._lease.stop())
        self._api.close()

    async def _remove_all(self) -> bool:
        """Remove every pod of this maker but those that were left to others. Returns whether none is left."""
        try:
            await self._removal.delete_all_of(self._maker.maker, but=self._left, within_s=LAST_LOOK_S)
        except SandboxError as e:
            log.warning("pods may be left until the lease of maker %s has expired: %s", self._maker.maker, e)
            return False
        return not self._left

    async def _prepare(self) -> None:
        async with self._preparing:
            if not self._prepared:
                await self._lease.hold()
                self._watch.start()
                self._prepared = True
                await self._watch.ready(timeout_s=FIRST_LIST_S)

    async def _blank(self, spec: SandboxSpec, *, for_now: bool) -> _Blank:
        """A pod whose boxd waits for its config, with its network proven closed if it must be.

        With `for_now` false it is given up as soon as the cluster has no place for it.
        """
        box = self._next_box()
        async with self._room.making(box):
            self._gone[box] = asyncio.get_running_loop().create_future()
            try:
                token, made_at = self._token(box), self._api.now()
                address = await self._pod(box, spec, token, for_now=for_now)
                boxd = BoxdBox(box, self._access(box, spec, token, address))
                with _of_boxd(box, address):
                    said = await boxd.health(timeout_s=ANSWER_S)
                    if spec.network is not Network.OPEN:
                        await self._proof.holds(boxd, address, within_s=PROOF_S)
                boxd.disconnect()
            except BaseException:
                await self._undo(box)
                raise
        return _Blank(box, token, address, made_at, said)

    async def _claim(self, blank: _Blank, spec: SandboxSpec, checkout: bytes) -> BoxdBox:
        """Turn a blank into the requested box. A blank that fails is removed."""
        made = BoxdBox(blank.box_id, self._access(blank.box_id, spec, blank.token, blank.address))
        try:
            machine = MACHINES.get(str(blank.said.get("architecture")), "")
            config = kubernetes_pod.config(spec, variables=blank.said.get("variables") or (), seccomp=local_seccomp.program(machine))
            try:
                with _of_boxd(blank.box_id, blank.address):
                    await made.configure(config)
                    await self._furnish(made, spec)
                    if checkout:
                        await made.put(checkout)
            except EnvfarmError as e:
                if await self._answers(made):  # the request is at fault, and would fail in any pod
                    raise
                raise _Silent(str(e), hint=e.hint) from e
        except BaseException:
            await self._undo(blank.box_id)
            raise
        self._open[blank.box_id] = made
        return made

    async def _answers(self, made: BoxdBox) -> bool:
        try:
            await made.health(timeout_s=EVIDENCE_S)
        except EnvfarmError:
            return False
        return True

    def _label_claimed(self, blank: _Blank, spec: SandboxSpec) -> None:
        """Label a claimed pod in the background, so that no other maker ends it for its room. Nothing waits for it."""
        now = self._api.now()
        patch = kubernetes_pod.claim(spec, maker=self._maker, now=now, age_s=now - blank.made_at)
        self._in_background(self._patch(blank.box_id, patch))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something to its end, even if the caller is cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _patch(self, box: BoxId, patch: Json) -> None:
        try:
            await self._api.ask("PATCH", self._api.path("pods", box), patch, within_s=ANSWER_S)
        except SandboxError as e:
            if not self._is_gone(box):
                log.warning("pod %s could not be labelled with its owner: %s", box, e)

    async def _furnish(self, made: BoxdBox, spec: SandboxSpec) -> None:
        """Set up what an image lacks: modes of areas, the agent's account and directories. Has no effect in an image without a shell."""
        areas = kubernetes_pod.areas_of(spec)
        script = AREAS_READY + 'work=$WORK_DIR\nset -- "$work"\n' + READY
        argv = ("/bin/sh", "-c", script, "sh", *areas)
        env = {"WORK_DIR": spec.environment.work_dir}
        await made.exec(ExecRequest(argv=argv, env=env, cwd="/", user="root", timeout_s=120))

    async def _ahead(self, key: str) -> _Blank:
        return await self._blank(SandboxSpec.model_validate_json(key), for_now=False)

    async def _drop(self, blank: _Blank) -> None:
        await self.destroy(blank.box_id)

    async def _pod(self, box: BoxId, spec: SandboxSpec, token: str, *, for_now: bool) -> str:
        """Create the pod and wait until its main container runs. Returns its address.

        While other boxes of the farm run, a pod without a place waits longer than `start_s`, without holding up others.
        """
        now, ahead = self._api.now(), not for_now
        body = kubernetes_pod.manifest(
            spec, box, token_digest=_digest(token), maker=self._maker, options=self._options, now=now, ahead=ahead
        )
        await self._post(box, body, for_now=for_now)

        def started(pod: Json) -> str | None:
            if why := kubernetes_status.unplaced(pod):
                self._no_place(box, why, for_now=for_now)
            return kubernetes_status.address(pod)

        while True:
            try:
                return await self._watch.until(box, started, timeout_s=self._options.start_s)
            except TimeoutError as e:
                pod = self._watch.pod(box)
                if not (pod and kubernetes_status.unplaced(pod) and await self._others_run()):
                    raise kubernetes_status.why_not_started(pod, after_s=self._options.start_s) from e
                self._room.stand_aside(box)

    async def _post(self, box: BoxId, body: Json, *, for_now: bool) -> None:
        """Create the pod, retrying at growing intervals while the namespace's quota has no room or is being computed."""
        loop = asyncio.get_running_loop()
        until, wait_s, uncertain = loop.time() + self._options.start_s, FIRST_WAIT_S, False
        while True:
            try:
                await self._api.ask("POST", self._api.path("pods"), body, within_s=self._options.start_s)
            except Refused as e:
                uncertain = uncertain or e.after_uncertainty
                # This maker uses each name once, so an existing pod of this name was created by an earlier try of this request.
                if e.reason == "AlreadyExists" and uncertain:
                    return
                uncounted = kubernetes_status.quota_uncounted(e)
                if not (uncounted or kubernetes_status.beyond_quota(e)):
                    raise
                if not uncounted:
                    self._no_place(box, str(e), for_now=for_now)
                if loop.time() > until:
                    if uncounted or not await self._others_run():
                        raise
                    self._room.stand_aside(box)
            else:
                return
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _no_place(self, box: BoxId, why: str, *, for_now: bool) -> None:
        """A pod has no place yet. Blanks give way to it. If it is itself created ahead, it is given up: raises `SandboxError`."""
        news = self._room.refused(box)
        if not for_now:
            raise SandboxError(f"the cluster has no place for a box that would be created ahead: {why}")
        if news:
            log.info("pod %s waits for a place: %s", box, why)
        self._make_way()

    def _make_way(self) -> None:
        """End an idle blank for a box that has no place: one of this maker's, or else another's."""
        if not self.warm.give_way() and self._room.short and (self._taking is None or self._taking.done()):
            self._taking = self._in_background(self._end_anothers_blank())

    async def _end_anothers_blank(self) -> None:
        """End the youngest that idles: its maker hands it out last. One that is claimed meanwhile is spared, as its labels have changed."""
        selector = f"{kubernetes_pod.unclaimed(self._options.farm)},{DOMAIN}maker!={self._maker.maker}"
        query = {"labelSelector": selector, "fieldSelector": "status.phase=Running", "limit": str(PAGE)}
        try:
            found = (await self._api.ask("GET", self._api.path("pods"), query=query, within_s=ANSWER_S)).get("items") or ()
            idle = [pod["metadata"] for pod in found if not pod["metadata"].get("deletionTimestamp")]
            if idle:
                youngest = max(idle, key=lambda metadata: str(metadata["creationTimestamp"]))
                await self._removal.delete(BoxId(youngest["name"]), version=youngest["resourceVersion"], within_s=ANSWER_S)
        except SandboxError as e:
            log.info("no idle pod of another maker was ended for a box that waits: %s", e)

    async def _others_run(self) -> bool:
        """Whether boxes of this farm run. Then there are places, and a waiting pod gets one when a box ends.

        Unclaimed pods do not count: no work ends them, and they make room by themselves.
        """
        query = {"labelSelector": kubernetes_pod.claimed(self._options.farm), "fieldSelector": "status.phase=Running", "limit": "1"}
        return bool((await self._api.ask("GET", self._api.path("pods"), query=query)).get("items"))

    def _next_box(self) -> BoxId:
        self._made += 1
        return BoxId(f"box-{self._maker.maker}-{self._made}")

    def _token(self, box: BoxId) -> str:
        """Of its name, which no other box ever has: so whoever has the key can go on with it."""
        return hmac.new(self._key, box.encode(), hashlib.sha256).hexdigest()

    def _access(self, box: BoxId, spec: SandboxSpec, token: str, address: str) -> BoxAccess:
        gone = self._gone[box]
        return BoxAccess(
            endpoint=Endpoint(host=address, port=PORT),
            token=token,
            epoch=spec.epoch,
            alive=lambda: not gone.done(),
            remove=lambda: self.destroy(box),
            agent=(AGENT, AGENT),
            output_bytes=spec.output_bytes,
            gone=gone,
            look=lambda: self._look(box),
            # With a kernel of its own, code inside may be root of the box's network.
            patience_s=0.0 if self._options.own_kernel else WAY_BROKEN_S,
        )

    async def _undo(self, box: BoxId) -> None:
        """Remove what a failed creation may have left."""
        await asyncio.shield(self._in_background(self._undone(box)))

    async def _undone(self, box: BoxId) -> None:
        try:
            await self.destroy(box)
        except SandboxError as e:
            log.warning("pod %s could not be removed yet: %s", box, e)

    def _stray(self, box: BoxId) -> None:
        """Start a task that removes a pod of this maker that belongs to nobody, unless there is one."""
        if box not in self._strays:
            self._strays[box] = asyncio.get_running_loop().create_task(self._remove_stray(box))
            self._strays[box].add_done_callback(lambda _: self._strays.pop(box, None))

    async def _remove_stray(self, box: BoxId) -> None:
        """Remove it as soon as the API server allows it. The watch reports a pod that appears later."""
        wait_s = STRAY_AFTER_S
        while True:
            await asyncio.sleep(wait_s)
            pod = self._watch.pod(box)
            if pod is None or pod["metadata"].get("deletionTimestamp"):
                return
            try:
                await self._removal.delete(box)
            except SandboxError as e:
                log.warning("pod %s belongs to nobody and could not be removed: %s", box, e)
                wait_s = min(wait_s * 2, STRAY_AGAIN_S)
            else:
                return

    async def _look(self, box: BoxId) -> None:
        """Get evidence on a box that does not answer: the current status of its pod and its node."""
        try:
            pod = await self._api.ask("GET", self._api.path("pods", box), within_s=EVIDENCE_S)
        except Refused as e:
            if e.status == HTTPStatus.NOT_FOUND:
                self._end(box, BoxLost(f"pod {box} no longer exists"))
            return
        self._changed(box, pod, False)
        node = _node(pod)
        beside = [
            made for each, made in self._open.items() if each != box and not self._is_gone(each) and _node(self._watch.pod(each)) == node
        ]
        if not self._is_gone(box) and (lost := await self._evidence.trouble(node, beside)):
            self._end(box, lost)

    async def _probe(self, node: str) -> bool | None:
        """See `NodeEvidence`."""
        box = self._next_box()
        self._gone[box] = asyncio.get_running_loop().create_future()
        token = self._token(box)
        body = kubernetes_pod.probe(box, node, token_digest=_digest(token), maker=self._maker, options=self._options)
        try:
            await self._api.ask("POST", self._api.path("pods"), body, within_s=ANSWER_S)
            address = await self._watch.until(box, kubernetes_status.address, timeout_s=PROBE_START_S)
            there = BoxAccess(Endpoint(host=address, port=PORT), token, epoch=0, alive=lambda: True, remove=lambda: self.destroy(box))
            return await _answers_soon(BoxdBox(box, there))
        except (EnvfarmError, NoRoom, TimeoutError) as e:
            log.warning("no pod on node %s could be asked whether it can be reached: %s", node, e)
            return None
        finally:
            self._in_background(self._undone(box))

    def _changed(self, name: str, pod: Json, gone: bool) -> None:  # noqa: FBT001 - the watch's callback
        box = BoxId(name)
        why = kubernetes_status.end(pod, gone=gone, own_kernel=bool(self._options.own_kernel))
        if why is not None:
            self._end(box, why)
        if box not in self._gone and not gone and not pod["metadata"].get("deletionTimestamp"):
            self._stray(box)

    def _is_gone(self, box: BoxId) -> bool:
        future = self._gone.get(box)
        return future is None or future.done()

    def _end(self, box: BoxId, why: EnvfarmError) -> None:
        future = self._gone.get(box)
        if future is not None and not future.done():
            future.set_result(why)


def _key(spec: SandboxSpec) -> str:
    return kubernetes_pod.shape(spec).model_dump_json()


def _refuse_what_no_pod_can_be(spec: SandboxSpec) -> None:
    image = spec.environment.image
    if image.kind != "oci" or not image.reference:
        hint = "build the recipe for Kubernetes: its images are pushed to a registry"
        raise ImageError(f"pods are created from images in a registry, not from `{image.kind}` environments", hint=hint)
    if spec.mounts:
        raise ImageError("a pod cannot have mounts of a host", hint="environments are built on a machine with Docker")


@contextmanager
def _of_boxd(box: BoxId, address: str) -> Iterator[None]:
    try:
        yield
    except (BoxBroken, BoxLost, ValueError) as e:
        hint = "this process must reach pods: run it in the cluster or on its network, and allow it in the network policies"
        raise SandboxError(f"boxd in pod {box} at {address}:{PORT} cannot be used: {e}", hint=hint) from e


async def _answers_soon(made: BoxdBox) -> bool:
    """Asks until it answers: its boxd may begin late, and a network's rules for a new pod may. Raises `NoRoom`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PROBE_ANSWER_S
    try:
        while not await made.answers(timeout_s=EVIDENCE_S):
            if loop.time() > until:
                return False
            await asyncio.sleep(1)
        return True
    finally:
        made.disconnect()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _node(pod: Json | None) -> str:
    return str(((pod or {}).get("spec") or {}).get("nodeName", ""))
