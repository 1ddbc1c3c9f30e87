"""Which makers of pods are alive, as the cluster knows it: each renews a Lease as long as its process lives.

Only the API server's clock counts, so hosts whose clocks differ agree. A thread renews the lease, not the event loop: a busy loop must
not look dead and have its boxes collected.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus

import urllib3

from envfarm.core.errors import SandboxError
from envfarm.sandboxes.kubernetes_api import Json, KubernetesApi, Refused, Uncertain
from envfarm.sandboxes.kubernetes_pod import DOMAIN

RENEWALS = 4
"""Per lease duration."""
KEPT_S = 3600.0
"""How long a dead maker's lease is kept, so that a pod which a late request still created is recognized as a leftover."""
TURNS = 1.5
"""How long to wait for others' renewals, in multiples of the renewal interval."""
log = logging.getLogger(__name__)


class MakerLease:
    """This maker's own lease, and a view of all others."""

    def __init__(self, api: KubernetesApi, *, farm: str, maker: str, lease_s: int) -> None:
        self._api = api
        self._farm = farm
        self._lease_s = lease_s
        self.name = f"envfarm-maker-{maker}"
        self.maker = maker
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    async def hold(self) -> None:
        """Create the lease, and renew it until `release`. Raises `SandboxError`."""
        if self._thread is None:
            await self._api.ask("GET", self._api.path("leases"), query={"limit": "1"})  # learns the server's time
            try:
                await self._api.ask("POST", self._api.path("leases"), self._body())
            except Refused as e:
                if not (e.reason == "AlreadyExists" and e.after_uncertainty):
                    raise
            self._thread = threading.Thread(target=self._renew, name="kubernetes-lease", daemon=True)
            self._thread.start()

    async def release(self) -> None:
        """Give up the lease. For a provider that has closed its boxes."""
        await self.stop()
        try:
            await self._api.ask("DELETE", self._api.path("leases", self.name), within_s=10)
        except SandboxError as e:
            log.info("the lease %s was not deleted and will expire: %s", self.name, e)

    async def stop(self) -> None:
        """Stop renewing the lease."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def living(self) -> frozenset[str]:
        """The makers of this farm that are alive."""
        return (await self.makers())[0]

    async def living_later(self) -> frozenset[str]:
        """The living makers, after each has had time to renew its lease: during an outage of the API server none could."""
        await asyncio.sleep(self._lease_s / RENEWALS * TURNS)
        return await self.living()

    async def makers(self) -> tuple[frozenset[str], frozenset[str]]:
        """The makers of this farm that are alive, and those whose lease has expired."""
        found = await self._leases()
        now = self._api.now()
        living = frozenset(_maker(lease) for lease in found if _lapses_at(lease) > now)
        return living, frozenset(map(_maker, found)) - living

    async def collect(self, *, but: Iterable[str]) -> None:
        """Remove leases that expired long ago, except those of makers that still have pods."""
        kept = set(but)
        for lease in await self._leases():
            if _maker(lease) not in kept and _lapses_at(lease) + KEPT_S < self._api.now():
                try:
                    await self._api.ask("DELETE", self._api.path("leases", lease["metadata"]["name"]))
                except Refused as e:
                    if e.status != HTTPStatus.NOT_FOUND:
                        raise

    async def _leases(self) -> list[Json]:
        return await self._api.every("leases", f"{DOMAIN}part=maker,{DOMAIN}farm={self._farm}")

    def _body(self) -> Json:
        now = datetime.fromtimestamp(self._api.now(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "labels": {f"{DOMAIN}part": "maker", f"{DOMAIN}farm": self._farm, f"{DOMAIN}maker": self.maker},
            },
            "spec": {"holderIdentity": self.maker, "leaseDurationSeconds": self._lease_s, "renewTime": now},
        }

    def _renew(self) -> None:
        """The thread. It patches without a resource version: nobody else writes this lease, except to remove it after a long silence."""
        while not self._stop.wait(self._lease_s / RENEWALS):
            try:
                self._api.call("PATCH", self._api.path("leases", self.name), self._body())
            except Refused as e:
                log.warning("the lease %s was not renewed: %s", self.name, e)
                if e.status == HTTPStatus.NOT_FOUND:
                    self._make_again()
            except (Uncertain, urllib3.exceptions.HTTPError, OSError) as e:
                log.warning("the lease %s could not be renewed: %s", self.name, e)

    def _make_again(self) -> None:
        try:
            self._api.call("POST", self._api.path("leases"), self._body())
        except (Refused, Uncertain, urllib3.exceptions.HTTPError, OSError) as e:
            log.warning("the lease %s could not be created again: %s", self.name, e)


def _maker(lease: Json) -> str:
    return str((lease["metadata"].get("labels") or {}).get(f"{DOMAIN}maker", ""))


def renewed_at(lease: Json) -> float:
    """When its holder last renewed it, in seconds since the epoch; 0 if never."""
    renewed = (lease.get("spec") or {}).get("renewTime")
    return datetime.fromisoformat(renewed).timestamp() if renewed else 0.0


def _lapses_at(lease: Json) -> float:
    renewed = renewed_at(lease)
    return renewed and renewed + float(lease["spec"].get("leaseDurationSeconds") or 0)
