"""Whether a silent pod's node, or the way to it, is at fault.

Only what no agent can bring about is evidence. Boxes beside a silent one may be in league with it, all of one policy. So their answers
clear the node, but their silence proves nothing: a pod is made on the node for the question alone, and asked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from itertools import islice

from envfarm.core.errors import BoxLost
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.kubernetes_api import KubernetesApi, Refused
from envfarm.sandboxes.kubernetes_lease import renewed_at

EVIDENCE_S = 5.0
"""How long the watch may lag behind a box that does not answer."""
NODE_SILENT_S = 25.0
"""A kubelet renews its node's lease every 10 s."""
MOST_ASKED = 8
"""Of the boxes beside a silent one."""


class NodeEvidence:
    """Gets evidence on nodes. Close it at the end."""

    def __init__(self, api: KubernetesApi, probe: Callable[[str], Awaitable[bool | None]]) -> None:
        """`probe` tells whether a new pod on a node, in which no agent ever was, answers; None if it does not run."""
        self._api = api
        self._probe = probe
        self._asking: dict[str, asyncio.Future[bool | None]] = {}
        """By node: boxes that fall silent together need one probe."""

    async def trouble(self, node: str, beside: Sequence[BoxdBox]) -> BoxLost | None:
        """The trouble of a node that explains a silent box there, if any. Raises `SandboxError` if nobody can say.

        `beside` are the living boxes on it.
        """
        return await self._status(node) or await self._way(node, beside)

    async def aclose(self) -> None:
        """Ask nobody any more."""
        asking = [*self._asking.values()]
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _status(self, node: str) -> BoxLost | None:
        try:
            said = await self._api.ask("GET", f"/api/v1/nodes/{node}", within_s=EVIDENCE_S)
        except Refused as e:
            return BoxLost(f"node {node} no longer exists") if e.status == HTTPStatus.NOT_FOUND else None
        for condition in (said.get("status") or {}).get("conditions") or ():
            if condition.get("type") == "Ready" and condition.get("status") != "True":
                return BoxLost(f"node {node} is not ready: {condition.get('reason', '')}: {condition.get('message', '')}")
        return await self._silence(node)

    async def _silence(self, node: str) -> BoxLost | None:
        """Whether the node's kubelet has stopped renewing its lease, which shows a dead node sooner than its status does."""
        try:
            lease = await self._api.ask("GET", self._api.node_lease(node), within_s=EVIDENCE_S)
        except Refused:
            return None  # there is none, or this account may not read it
        silent_s = self._api.now() - renewed_at(lease)
        return BoxLost(f"node {node} has not renewed its lease for {silent_s:.0f} s") if silent_s > NODE_SILENT_S else None

    async def _way(self, node: str, beside: Sequence[BoxdBox]) -> BoxLost | None:
        asked = (made.answers(timeout_s=EVIDENCE_S) for made in islice(beside, MOST_ASKED))
        if True in await asyncio.gather(*asked, return_exceptions=True):
            return None
        asking = self._asking.get(node)
        if asking is None:
            asking = self._asking[node] = asyncio.ensure_future(self._probe(node))
            asking.add_done_callback(lambda _: self._asking.pop(node, None))
        await asyncio.wait({asking})
        if not asking.cancelled() and asking.result() is False:
            return BoxLost(f"node {node} cannot be reached from here: neither can a pod that was made there for this question")
        return None
