"""A provider of simulated boxes, through the farm's own boxd client. The simulator may run in this or another process.

For tests and for measuring a farm without a cluster. Each box has its own address in 127.64.0.0/10, like the pods of fake nodes.
"""

import json
import secrets
from ipaddress import IPv4Address
from itertools import count

from envfarm.core.errors import SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.protocols import BlobStore
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.boxd_client import BoxAccess, BoxdBox
from envfarm.sandboxes.boxd_connection import BoxdConnections, ConnectionLost, Endpoint
from envfarm.testing.boxd_simulator.server import DESK

FIRST = IPv4Address("127.64.0.1")
ASK_S = 30.0
NOBODY = "nobody"
"""A placeholder for a token where none is required."""


class SimulatedProvider:
    """Creates boxes at the simulator at `port`. `first` is the address of its first box; several providers need disjoint addresses."""

    name = "simulated"

    def __init__(self, port: int, blobs: BlobStore, *, first: IPv4Address = FIRST) -> None:
        self._port = port
        self._blobs = blobs
        self._addresses = count(int(first))
        self._desk = BoxdConnections(Endpoint(host=DESK, port=port), token=NOBODY, epoch=0)
        self._open: set[BoxId] = set()

    async def create(self, spec: SandboxSpec) -> BoxdBox:
        """See `SandboxProvider.create`."""
        checkout = await self._blobs.get(spec.environment.checkout.digest) if spec.environment.checkout else b""
        address = str(IPv4Address(next(self._addresses)))
        box, token = BoxId(address), secrets.token_urlsafe(32)
        work_dir = spec.environment.work_dir
        env = {"HOME": "/home/agent", **spec.environment.env}
        await deliver(Endpoint(host=address, port=self._port), token, {"epoch": spec.epoch, "work_dir": work_dir, "exec_env": env})
        self._open.add(box)
        access = BoxAccess(
            endpoint=Endpoint(host=address, port=self._port),
            token=token,
            epoch=spec.epoch,
            alive=lambda: box in self._open,
            remove=lambda: self.destroy(box),
            output_bytes=spec.output_bytes,
        )
        made = BoxdBox(box, access)
        if checkout:
            await made.put(checkout)
        return made

    async def destroy(self, box: BoxId) -> None:
        """See `SandboxProvider.destroy`."""
        if box in self._open:
            self._open.remove(box)
            await self._desk.request("POST", "/remove", json.dumps([box]).encode(), timeout_s=ASK_S)

    async def collect_left_overs(self) -> int:
        """Always 0: it knows only boxes of this object."""
        return 0

    async def aclose(self) -> None:
        """End every box."""
        for box in list(self._open):
            await self.destroy(box)
        self._desk.close()


async def deliver(endpoint: Endpoint, token: str, config: dict[str, object]) -> None:
    """Send a waiting boxd its config. Raises `SandboxError` if it is not accepted."""
    first = BoxdConnections(endpoint, token=token, epoch=0)
    try:
        reply = await first.request("PUT", "/v1/config", json.dumps(config).encode(), timeout_s=ASK_S)
    except (ConnectionLost, TimeoutError) as e:
        raise SandboxError(f"no simulator answers at {endpoint.host}: {e}") from e
    finally:
        first.close()
    if reply.status != 200:
        raise SandboxError(f"the boxd at {endpoint.host} refused its config: {reply.body[:300]!r}")
