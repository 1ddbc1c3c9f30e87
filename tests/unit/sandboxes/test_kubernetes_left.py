"""No pod stays whose maker lives and does not hold it: what an API server that is late, or refuses, would leave."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from envfarm.core import digest
from envfarm.core.errors import BoxLost, SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.kubernetes import KubernetesProvider, _Blank
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.testing.blobs import MemoryBlobs
from tests.unit.sandboxes.full_cluster import FullCluster, Json, served

SPEC = SandboxSpec(environment=Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(b"i"), reference="r/i@sha256:1")))
FORBIDDEN = {"code": 403, "reason": "Forbidden", "message": "not now"}


class LateCluster(FullCluster):
    """Its API server takes a pod only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.let = threading.Event()

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> Any:
        if method == "POST" and path.endswith("/pods"):
            self.asked.set()
            self.let.wait(5)
        return super().answer(method, path, query, body)


@asynccontextmanager
async def provided(
    cluster: FullCluster, path: Path, kind: type[KubernetesProvider] = KubernetesProvider, **more: Any
) -> AsyncIterator[KubernetesProvider]:
    with served(cluster, path / "kubeconfig"):
        options = KubernetesOptions(boxd_image="r/b", kubeconfig=str(path / "kubeconfig"), **more)
        provider = kind(options, MemoryBlobs())
        try:
            yield provider
        finally:
            await provider.aclose()


async def until_gone(cluster: FullCluster) -> None:
    while cluster.pods:  # noqa: ASYNC110 - the server is another thread's
        await asyncio.sleep(0.01)


async def test_a_pod_that_is_called_off_while_it_is_asked_for_is_removed_after_it_was_made(tmp_path: Path) -> None:
    cluster = LateCluster()
    async with provided(cluster, tmp_path) as provider:
        making = asyncio.create_task(provider.create(SPEC))
        await asyncio.to_thread(cluster.asked.wait)
        making.cancel()
        await asyncio.sleep(0.05)
        making.cancel()  # by somebody who is in a hurry
        asyncio.get_running_loop().call_later(0.1, cluster.let.set)
        await asyncio.gather(making, return_exceptions=True)
        while not cluster.events:  # noqa: ASYNC110 - the server is another thread's
            await asyncio.sleep(0.01)
        await until_gone(cluster)
    assert cluster.deleted


async def test_a_pod_whose_removal_was_refused_is_removed_later(tmp_path: Path) -> None:
    cluster = FullCluster()
    refused: list[str] = []

    def once(method: str, path: str) -> Json | None:
        if method == "DELETE" and "/pods/" in path and not refused:
            refused.append(path)
            return FORBIDDEN
        return None

    cluster.refuses = once
    async with provided(cluster, tmp_path) as provider:
        making = asyncio.create_task(provider.create(SPEC))
        while not provider._room.full:  # noqa: ASYNC110 - the watch is another thread's
            await asyncio.sleep(0.01)
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)
        assert refused
        await until_gone(cluster)


async def test_a_pod_of_this_makers_that_nobody_knows_of_is_removed(tmp_path: Path) -> None:
    cluster = FullCluster()
    async with provided(cluster, tmp_path) as provider:
        await provider.collect_left_overs()
        late = {"name": "box-late", "labels": {"envfarm.dev/part": "box", "envfarm.dev/maker": provider.maker}}
        await asyncio.to_thread(cluster.answer, "POST", "/pods", {}, {"metadata": late})
        await until_gone(cluster)
    assert "box-late" in cluster.deleted


async def test_a_claim_that_is_called_off_while_its_pod_is_asked_for_a_sign_of_life_leaves_no_pod(tmp_path: Path) -> None:
    asked = asyncio.Event()

    class Watched(KubernetesProvider):
        async def _answers(self, made: BoxdBox) -> bool:  # noqa: ARG002 - the method's
            asked.set()
            await asyncio.Event().wait()
            return True

    cluster = FullCluster()
    async with provided(cluster, tmp_path, Watched) as provider:
        await provider.collect_left_overs()
        blank = _Blank(BoxId("box-1"), "token", "127.0.0.1", 0.0, {"architecture": "amd64"})
        provider._gone[blank.box_id] = asyncio.get_running_loop().create_future()
        provider._gone[blank.box_id].set_result(BoxLost("the node went"))
        claiming = asyncio.create_task(provider._claim(blank, SPEC, b""))
        await asked.wait()
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        assert "box-1" in cluster.deleted


@pytest.mark.parametrize("refuses", [False, True], ids=["nothing is left", "a pod is left"])
async def test_a_maker_gives_its_lease_up_only_where_it_leaves_no_pod(tmp_path: Path, refuses: object) -> None:
    cluster = FullCluster()
    given_up: list[str] = []

    def about(method: str, path: str) -> Json:
        if method == "DELETE":
            given_up.append(path)
        return {"items": []}

    cluster.about = about
    cluster.refuses = lambda method, path: FORBIDDEN if refuses and method == "DELETE" and "/pods/" in path else None
    async with provided(cluster, tmp_path) as provider:
        await provider.collect_left_overs()
        cluster.run("box-1", maker=provider.maker)
        if refuses:
            with pytest.raises(SandboxError):
                await provider.destroy(BoxId("box-1"))
    assert bool(cluster.pods) is refuses
    assert bool(given_up) is not refuses
