"""Who is taken for dead: a maker that renews its lease no more, a node whose kubelet says nothing. And who was only not heard."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from envfarm.core.errors import BoxLost
from envfarm.sandboxes.kubernetes import KubernetesProvider
from envfarm.sandboxes.kubernetes_api import LIST_PAGE
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.testing.blobs import MemoryBlobs
from tests.unit.sandboxes.full_cluster import FullCluster, Json, served

LEASE_S = 5


@asynccontextmanager
async def provided(cluster: FullCluster, path: Path) -> AsyncIterator[KubernetesProvider]:
    with served(cluster, path / "kubeconfig"):
        options = KubernetesOptions(boxd_image="r/b", kubeconfig=str(path / "kubeconfig"), lease_s=LEASE_S)
        provider = KubernetesProvider(options, MemoryBlobs())
        try:
            yield provider
        finally:
            await provider.aclose()


def lease(maker: str, *, ago_s: float) -> Json:
    renewed = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat()
    labels = {"envfarm.dev/maker": maker, "envfarm.dev/farm": "envfarm"}
    spec = {"renewTime": renewed, "leaseDurationSeconds": LEASE_S}
    return {"metadata": {"name": f"envfarm-maker-{maker}", "labels": labels}, "spec": spec}


async def test_who_renews_as_soon_as_the_api_server_is_back_is_not_collected(tmp_path: Path) -> None:
    lists = 0

    def about(method: str, path: str) -> Json:
        nonlocal lists
        if method != "GET":
            return {}
        lists += 1
        return {"items": [lease("dead", ago_s=60), lease("late", ago_s=60 if lists < 4 else 0)]}

    cluster = FullCluster()
    cluster.about = about
    cluster.run("box-dead", maker="dead", owner="o")
    cluster.run("box-late", maker="late", owner="o")
    async with provided(cluster, tmp_path) as provider:
        assert await provider.collect_left_overs() == 1
    assert cluster.deleted & {"box-dead", "box-late"} == {"box-dead"}


async def test_many_pods_of_the_dead_are_listed_in_pages_and_removed_several_at_once(tmp_path: Path) -> None:
    cluster = FullCluster()
    for n in range(LIST_PAGE + 2):
        cluster.run(f"box-{n}", maker="dead", owner="o")
    two = threading.Barrier(2)

    def with_another(method: str, path: str) -> None:
        if method == "DELETE" and "/pods/" in path:
            two.wait(30)

    cluster.refuses = with_another
    async with provided(cluster, tmp_path) as provider:
        assert await provider.collect_left_overs() == LIST_PAGE + 2
    assert not cluster.pods
    assert cluster.most_listed == LIST_PAGE


@pytest.mark.parametrize(("ago_s", "lost"), [(5, False), (40, True)], ids=["it was heard of just now", "silent"])
async def test_a_node_that_is_still_called_ready_and_says_nothing_has_lost_its_boxes(tmp_path: Path, ago_s: float, lost: object) -> None:
    def about(method: str, path: str) -> Json:
        if "/nodes/" in path:
            return {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        return lease("", ago_s=ago_s) if "kube-node-lease" in path else {"items": []}

    cluster = FullCluster()
    cluster.about = about
    async with provided(cluster, tmp_path) as provider:
        found = await provider._node_trouble({"spec": {"nodeName": "n1"}})
    assert isinstance(found, BoxLost) is lost
    assert not lost or "node n1 has not renewed its lease" in str(found)
