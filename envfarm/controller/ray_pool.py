"""Hosts on Ray: a number of detached, named actors in the farm's namespace. A `Fleet`, made by `envfarm hosts --on ray`.

They outlive their driver: the next one finds them by name, and replaces those of another release than its own. Their names are the only
thing that it keeps on Ray; what is true of episodes is in the database. They do not outlive their node: see `drain_node`.
"""

import asyncio
import logging
import re
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]
from ray.exceptions import RayError

from envfarm.controller.host import HostView
from envfarm.controller.host_work import HostMaker
from envfarm.controller.ray_host import RayHost
from envfarm.core.errors import ClusterError, UsageError, boundary
from envfarm.core.frozen import Frozen

log = logging.getLogger(__name__)
CALLS_AT_ONCE = 32
"""Of one actor: its own playing, and a few questions."""
ANSWER_S = 20.0
"""How long Ray may take to answer. A cluster that does not is taken for dead."""
FORGETS_S = 0.2
"""Ray lists an actor for a moment after its end, and tells nobody when it does no more."""
OBJECT_STORE_BYTES = 100_000_000
"""Of a cluster that is started here: hosts send one another nothing through it."""


class RayPlace(Frozen):
    """Where on Ray."""

    address: str = ""
    """`HOST:PORT`, `ray://HOST:PORT` or `auto`; a cluster of this process's own where empty, which ends with it."""
    namespace: str = "envfarm"
    """The farm's: one per database."""
    release: str = ""
    """Hosts of another one are replaced, one by one, by a driver of this one. A name of letters, digits, `.` and `+`."""
    cpus_per_host: float = 1.0
    """What a host asks Ray for, so that hosts are spread over the nodes."""
    own_cpus: int = 1
    """What a cluster of this process's own has."""


@asynccontextmanager
async def connected(place: RayPlace) -> AsyncIterator[None]:
    """Be a driver of the cluster until the block ends. Raises `ClusterError`."""
    await _reach(place.address)
    own: dict[str, Any] = {"num_cpus": place.own_cpus, "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    wanted: dict[str, Any] = {"address": place.address} if place.address else {"address": "local", **own}
    with boundary(ClusterError, f"connecting to Ray at {place.address or 'this machine'}"), _own_signals():
        # Not in a thread: the kernel ends a Ray of our own with the thread that started it. Nothing else is done here yet.
        ray.init(**wanted, namespace=place.namespace, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        await asyncio.to_thread(ray.shutdown)


@contextmanager
def _own_signals() -> Iterator[None]:
    """What signals do is after the block what it was before: Ray has SIGTERM end a program in the middle of its work."""
    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} if ours else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
            signal.siginterrupt(number, False)


async def _reach(address: str) -> None:
    """Raises `ClusterError` for an address where nobody listens, which Ray itself would ask for ever."""
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator:
        return
    if not port.isdecimal():
        raise UsageError(f"--address {address}: {port!r} is no port", hint="HOST:PORT, ray://HOST:PORT or auto")
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError, OverflowError) as e:
        raise ClusterError(f"no Ray listens at {address}: {str(e) or 'no answer'}", hint="`ray status` there says whether it is up") from e
    writer.close()


@asynccontextmanager
async def on_ray(maker: HostMaker, place: RayPlace) -> AsyncIterator["RayFleet"]:
    """A fleet on a cluster, for as long as the block runs; hosts on a cluster that is not this process's own go on after it."""
    async with connected(place):
        fleet = RayFleet(maker, place)
        try:
            yield fleet
        finally:
            await fleet.aclose()


class RayFleet:
    """Implements `Fleet`, inside `connected`."""

    def __init__(self, maker: HostMaker, place: RayPlace) -> None:
        if not re.fullmatch(r"[A-Za-z0-9.+]*", place.release):
            raise UsageError(f"{place.release!r} is no release", hint="letters, digits, `.` and `+`")
        self._maker = maker
        self._prefix = f"host-{place.release}-"
        self.lasting = bool(place.address)
        options: dict[str, Any] = {"lifetime": "detached", "max_restarts": -1, "max_concurrency": CALLS_AT_ONCE}
        options |= {"num_cpus": place.cpus_per_host, "scheduling_strategy": "SPREAD"}
        self._actors = ray.remote(**options)(RayHost)
        self._draining: set[str] = set()
        self._ends: dict[str, asyncio.Future[None]] = {}

    async def hosts(self, *, leaving: bool = False) -> tuple[str, ...]:
        """See `Fleet.hosts`. A host whose process Ray is bringing back is there."""
        names = await _names()
        self._draining &= set(names)
        found = (name for name in names if leaving or name not in self._draining)
        return tuple(sorted(found, key=lambda name: (not self._is_mine(name), _number(name))))

    async def outdated(self) -> str | None:
        """See `Fleet.outdated`."""
        names = await _names()
        others = [name for name in names if not self._is_mine(name)]
        if not others or self._draining.intersection(others):
            return None
        plays = await asyncio.gather(*(_plays(name) for name in names if self._is_mine(name) and name not in self._draining))
        return min(others, key=_number) if all(plays) else None

    async def start(self) -> str:
        """See `Fleet.start`. Gives up nothing where Ray has no room: the actor begins when there is some."""
        taken = set(await _names())
        name = next(name for n in range(len(taken) + 1) if (name := f"{self._prefix}{n}") not in taken)
        with boundary(ClusterError, f"starting {name}"):
            await asyncio.to_thread(lambda: self._actors.options(name=name, get_if_exists=True).remote(self._maker))
        return name

    async def drain(self, host: str, *, grace_s: float, others_go_on: bool = False) -> None:
        """See `Fleet.drain`."""
        self._draining.add(host)
        try:
            async with asyncio.timeout(ANSWER_S):
                actor = await asyncio.to_thread(ray.get_actor, host)
                await actor.drain.remote(grace_s, others_go_on)
        except (RayError, ValueError, TimeoutError) as e:
            log.warning("%s did not hear that it is to end, and is ended: %s", host, type(e).__name__)
            await self._end(host)

    async def change(self) -> None:
        """See `Fleet.change`."""
        for name in await _names():
            if name not in self._ends:
                self._ends[name] = asyncio.ensure_future(_end_of(name))
        if self._ends:
            await asyncio.wait(self._ends.values(), return_when=asyncio.FIRST_COMPLETED)
            self._ends = {name: end for name, end in self._ends.items() if not end.done()}
        else:
            await asyncio.Event().wait()

    async def gone(self) -> None:
        """See `Fleet.gone`."""
        while await _names():
            await self.change()

    async def aclose(self) -> None:
        """Watch nobody any more; hosts are left as they are."""
        for end in self._ends.values():
            end.cancel()
        await asyncio.gather(*self._ends.values(), return_exceptions=True)
        self._ends = {}

    def _is_mine(self, name: str) -> bool:
        return name.startswith(self._prefix)

    @staticmethod
    async def _end(name: str) -> None:
        try:
            actor = await asyncio.to_thread(ray.get_actor, name)
        except ValueError:
            return
        with boundary(ClusterError, f"ending {name}"):
            await asyncio.to_thread(ray.kill, actor)


async def drain_node(place: RayPlace, *, grace_s: float) -> int:
    """End the hosts on this process's node, which gets no others, and return when they have ended; how many there were.

    For a node that is about to go. Raises `ClusterError`.
    """
    async with connected(place):
        context, names = ray.get_runtime_context(), await _names()
        node: str = context.get_node_id()
        nodes = await asyncio.gather(*(_answer(name, "node") for name in names))
        here = [name for name, where in zip(names, nodes, strict=True) if where == node]
        others_go_on = any(await asyncio.gather(*(_plays(name) for name in names if name not in here)))
        with boundary(ClusterError, "closing this node of Ray's"):
            cluster = GcsClient(address=context.gcs_address)
            await asyncio.to_thread(cluster.drain_node, node, DRAIN_NODE_REASON_PREEMPTION, "the node ends", 0)
        ends = [asyncio.ensure_future(_end_of(name)) for name in here]
        await asyncio.gather(*(_answer(name, "drain", grace_s, others_go_on) for name in here))
        await asyncio.gather(*ends)
        return len(here)


async def _names() -> list[str]:
    with boundary(ClusterError, "listing hosts on Ray"):
        async with asyncio.timeout(ANSWER_S):
            return [name for name in await asyncio.to_thread(ray.util.list_named_actors) if name.startswith("host-")]


async def _plays(name: str) -> bool:
    view: HostView | None = await _answer(name, "view")
    return view is not None and bool(view.name) and not view.draining


async def _answer(name: str, question: str, *given: Any) -> Any:
    """What a host answers; None where it does not."""
    try:
        async with asyncio.timeout(ANSWER_S):
            actor = await asyncio.to_thread(ray.get_actor, name)
            return await getattr(actor, question).remote(*given)
    except (RayError, ValueError, AttributeError, TimeoutError) as e:
        log.warning("%s does not answer: %s", name, type(e).__name__)
        return None


async def _end_of(name: str) -> None:
    try:
        actor = await asyncio.to_thread(ray.get_actor, name)
        await actor.ended.remote()
    except (RayError, ValueError) as e:
        log.debug("%s has ended: %s", name, type(e).__name__)
    await asyncio.sleep(FORGETS_S)


def _number(name: str) -> tuple[int, str]:
    last = name.rpartition("-")[2]
    return (int(last) if last.isdigit() else 0, name)
