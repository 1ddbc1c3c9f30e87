"""Removes pods: one, all of a maker, and what dead makers left."""

import asyncio
from collections.abc import Collection, Sequence
from http import HTTPStatus

from envfarm.core.ids import BoxId
from envfarm.sandboxes import kubernetes_pod
from envfarm.sandboxes.kubernetes_api import Json, KubernetesApi, Refused
from envfarm.sandboxes.kubernetes_lease import MakerLease
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_pod import DOMAIN


class PodRemoval:
    """Of one provider."""

    def __init__(self, api: KubernetesApi, lease: MakerLease, options: KubernetesOptions) -> None:
        self._api = api
        self._lease = lease
        self._options = options
        self._looked_for_all = False

    async def delete(self, box: BoxId, *, version: str = "", within_s: float = 60.0) -> bool:
        """Delete a pod; with a `version`, only if it is still the pod's: else raises `Refused` (409). Whether it was there."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"resourceVersion": version}}
        try:
            await self._api.ask("DELETE", self._api.path("pods", box), options if version else None, within_s=within_s)
        except Refused as e:
            if e.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    async def delete_all_of(self, maker: str, *, but: Collection[BoxId] = (), within_s: float) -> None:
        """Delete every pod of a maker `but` these. Raises `SandboxError`."""
        pods = await self._pods(kubernetes_pod.selector(maker=maker), within_s=within_s)
        await self._delete_each([pod for pod in pods if pod["metadata"]["name"] not in but], within_s=within_s)

    async def collect(self) -> int:
        """See `SandboxProvider.collect_left_overs`."""
        if self._looked_for_all:
            dead = await self._pods_of_lapsed()
        else:
            # Pods are listed first: a maker holds its lease before it creates any.
            pods = await self._pods(kubernetes_pod.selector(farm=self._options.farm))
            living = await self._lease.living()
            dead = [pod for pod in pods if _maker(pod) not in living]
            await self._lease.collect(but={_maker(pod) for pod in pods})
        if dead:
            living = await self._lease.living_later()
            dead = [pod for pod in dead if _maker(pod) not in living]
        removed = await self._delete_each(dead, within_s=60.0)
        self._looked_for_all = True
        return removed

    async def _pods_of_lapsed(self) -> list[Json]:
        """Pods of makers whose lease has expired but still exists. This avoids listing all pods of a large farm."""
        _, lapsed = await self._lease.makers()
        if not lapsed:
            return []
        return await self._pods(f"{kubernetes_pod.selector(farm=self._options.farm)},{DOMAIN}maker in ({','.join(sorted(lapsed))})")

    async def _pods(self, selector: str, *, within_s: float = 60.0) -> list[Json]:
        found = await self._api.every("pods", selector, within_s=within_s)
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    async def _delete_each(self, pods: Sequence[Json], *, within_s: float) -> int:
        """Delete them, several at once, and leave as many requests again to boxes. How many. Raises the first error once all were tried."""
        turns = asyncio.Semaphore(max(1, self._options.calls_at_once // 2))

        async def one(pod: Json) -> bool:
            async with turns:
                return await self._delete_of_its_maker(pod, within_s=within_s)

        removed = await asyncio.gather(*map(one, pods), return_exceptions=True)
        for error in removed:
            if isinstance(error, BaseException):
                raise error
        return sum(map(bool, removed))

    async def _delete_of_its_maker(self, pod: Json, *, within_s: float) -> bool:
        """Delete a pod unless another maker has adopted it since it was listed."""
        maker, box = _maker(pod), BoxId(pod["metadata"]["name"])
        while _maker(pod) == maker:
            try:
                return await self.delete(box, version=pod["metadata"]["resourceVersion"], within_s=within_s)
            except Refused as e:
                if e.status != HTTPStatus.CONFLICT:
                    raise
            try:
                pod = await self._api.ask("GET", self._api.path("pods", box), within_s=within_s)
            except Refused as e:
                if e.status != HTTPStatus.NOT_FOUND:
                    raise
                return False
        return False


def _maker(pod: Json) -> str:
    return str((pod["metadata"].get("labels") or {}).get(f"{DOMAIN}maker", ""))
