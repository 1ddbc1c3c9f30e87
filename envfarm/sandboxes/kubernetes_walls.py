"""Proof that a closed box reaches nothing, before anything runs in it. Used by `kubernetes`.

A NetworkPolicy is a wish: where the cluster's network does not enforce it, nothing says so. So each closed box is asked to connect to the
API server and to a listener of this process, and one that arrives is refused. Policies take hold some time after a pod's start, hence the
tries; what the listener accepts is seen from outside of the box.
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
"""Where clouds answer with the node's credentials."""


class NetworkProof:
    """Asks closed boxes what they reach. Opens its listener at the first use."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api_host = api.host
        self._server: asyncio.Server | None = None
        self._seen: set[str] = set()

    async def holds(self, box: BoxdBox, address: str, *, within_s: float) -> None:
        """Wait until the box at this address reaches nothing. Raises `SandboxError` when it still does at the end."""
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
                hint = "apply deny-all policies to the namespace (see docs/kubernetes.md), in a cluster whose network enforces them"
                raise SandboxError(f"a closed box reaches {', '.join(dict.fromkeys(reached))}", hint=hint)
            await asyncio.sleep(BETWEEN_S)

    async def aclose(self) -> None:
        """Close the listener."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _own_address(self, towards: str) -> str:
        """Where the listener is, as the box would reach it."""
        if self._server is None:
            self._server = await asyncio.start_server(self._note, "0.0.0.0", 0)  # noqa: S104 - it says nothing, and must be in reach
        family = socket.AF_INET6 if ":" in towards else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))  # sends nothing: it chooses the interface
            return f"{probe.getsockname()[0]}:{self._server.sockets[0].getsockname()[1]}"

    async def _api_addresses(self) -> list[str]:
        parts = urlsplit(self._api_host)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found: set[str] = set()
        with contextlib.suppress(OSError):
            answers = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
            found = {str(answer[4][0]) for answer in answers}
        # On loopback the box would meet itself.
        return [f"{each}:{port}" for each in sorted(found) if not ipaddress.ip_address(each).is_loopback and ":" not in each]

    def _note(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._seen.add(str(writer.get_extra_info("peername")[0]))
        writer.close()
