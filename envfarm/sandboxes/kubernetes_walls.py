"""Proves that a closed box reaches nothing, before anything runs in it.

If the cluster's network does not enforce NetworkPolicies, they have no effect and nothing reports it. So each closed box is asked to
connect to the API server and to a listener of this process; a box that succeeds is refused. Policies take effect some time after a pod's
start, so the check is repeated. What the listener accepts is observed from outside the box.
"""

import asyncio
import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit

from envfarm.core.errors import SandboxError
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.kubernetes_api import KubernetesApi

TRY_MS = 300
BETWEEN_S = 0.2
METADATA = "169.254.169.254:80"
"""The address at which clouds serve the node's credentials."""


class NetworkProof:
    """Checks what closed boxes reach. Opens its listener at the first use."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api_host = api.host
        self._server: asyncio.Server | None = None
        self._seen: set[str] = set()

    async def holds(self, box: BoxdBox, address: str, *, within_s: float) -> None:
        """Wait until the box at this address reaches nothing. Raises `SandboxError` if it still does after `within_s`."""
        targets = [await self._own_address(address), *await self._api_addresses(), METADATA]
        until = asyncio.get_running_loop().time() + within_s
        while True:
            self._seen.discard(address)
            reached = await box.reaches(targets, timeout_ms=TRY_MS)
            if address in self._seen:
                reached = (*reached, targets[0])
            if not reached:
                return
            if asyncio.get_running_loop().time() > until:
                hint = "apply deny-all policies to the namespace (see docs/kubernetes.md), and use a cluster network that enforces them"
                raise SandboxError(f"a closed box reaches {', '.join(dict.fromkeys(reached))}", hint=hint)
            await asyncio.sleep(BETWEEN_S)

    async def aclose(self) -> None:
        """Close the listener."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _own_address(self, towards: str) -> str:
        """The listener's address, as the box would reach it."""
        if self._server is None:
            self._server = await asyncio.start_server(self._note, "0.0.0.0", 0)  # noqa: S104 - it must be reachable, and sends nothing
        family = socket.AF_INET6 if ":" in towards else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))  # sends nothing, but selects the interface
            return f"{probe.getsockname()[0]}:{self._server.sockets[0].getsockname()[1]}"

    async def _api_addresses(self) -> list[str]:
        parts = urlsplit(self._api_host)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found: set[str] = set()
        with contextlib.suppress(OSError):
            answers = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
            found = {str(answer[4][0]) for answer in answers}
        # A loopback address would be the box itself.
        return [f"{each}:{port}" for each in sorted(found) if not ipaddress.ip_address(each).is_loopback and ":" not in each]

    def _note(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._seen.add(str(writer.get_extra_info("peername")[0]))
        writer.close()
