"""Proves that a closed box reaches nothing, before anything runs in it.

If the cluster's network does not enforce NetworkPolicies, they have no effect and nothing reports it. So each closed box is asked to
connect to the API server and to a listener of this process; a box that succeeds is refused. Policies take effect some time after a pod's
start, so the check is repeated. What the listener accepts is observed from outside the box.
"""

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from envfarm.core.errors import SandboxError
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.kubernetes_api import KubernetesApi

TRY_MS = 300
BETWEEN_S = 0.2
IPV4 = 4
METADATA = "169.254.169.254:80"
"""The address at which clouds serve the node's credentials."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NetworkProof:
    """Checks what closed boxes reach. Opens a listener for each family of addresses at its first use."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api_host = api.host
        self._opening = asyncio.Lock()
        self._servers: dict[socket.AddressFamily, asyncio.Server] = {}
        self._seen: set[Address] = set()

    async def holds(self, box: BoxdBox, address: str, *, within_s: float) -> None:
        """Wait until the box at this address reaches nothing. Raises `SandboxError` if it still does after `within_s`."""
        its = ipaddress.ip_address(address)
        targets = [await self._own_address(its), *await self._api_addresses(), METADATA]
        until = asyncio.get_running_loop().time() + within_s
        while True:
            self._seen.discard(its)
            reached = await box.reaches(targets, timeout_ms=TRY_MS)
            if its in self._seen:
                reached = (*reached, targets[0])
            if not reached:
                return
            if asyncio.get_running_loop().time() > until:
                hint = "apply deny-all policies to the namespace (see docs/kubernetes.md), and use a cluster network that enforces them"
                raise SandboxError(f"a closed box reaches {', '.join(dict.fromkeys(reached))}", hint=hint)
            await asyncio.sleep(BETWEEN_S)

    async def aclose(self) -> None:
        """Close the listeners."""
        while self._servers:
            _, server = self._servers.popitem()
            server.close()
            await server.wait_closed()

    async def _own_address(self, towards: Address) -> str:
        """A listener's address, as the box would reach it."""
        family, anywhere = (socket.AF_INET, "0.0.0.0") if towards.version == IPV4 else (socket.AF_INET6, "::")  # noqa: S104 - see below
        async with self._opening:
            if family not in self._servers:  # it must be reachable, and sends nothing
                self._servers[family] = await asyncio.start_server(self._note, anywhere, 0)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(towards), 9))  # sends nothing, but selects the interface
            return _target(probe.getsockname()[0], self._servers[family].sockets[0].getsockname()[1])

    async def _api_addresses(self) -> list[str]:
        parts = urlsplit(self._api_host)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            answers = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except OSError as e:
            raise SandboxError(f"the address of {parts.hostname}, which no closed box may reach, cannot be looked up: {e}") from e
        found = {str(answer[4][0]) for answer in answers}
        # A loopback address would be the box itself.
        return [_target(each, port) for each in sorted(found) if not ipaddress.ip_address(each).is_loopback]

    def _note(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._seen.add(ipaddress.ip_address(writer.get_extra_info("peername")[0]))
        writer.close()


def _target(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
