"""What a provider of pods does in a cluster that has no place for them: an API server that takes pods, and places none."""

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from envfarm.core import digest
from envfarm.core.errors import SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes import kubernetes
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.kubernetes import KubernetesProvider, _Blank
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.testing.blobs import MemoryBlobs
from tests.unit.sandboxes.full_cluster import FullCluster, Json, served

SPEC = SandboxSpec(environment=Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(b"i"), reference="r/i@sha256:1")))


@asynccontextmanager
async def provided(cluster: FullCluster, path: Path, *, start_s: float) -> AsyncIterator[KubernetesProvider]:
    with served(cluster, path / "kubeconfig"):
        options = KubernetesOptions(boxd_image="r/b", kubeconfig=str(path / "kubeconfig"), start_s=start_s, warm=4, creates_at_once=2)
        provider = KubernetesProvider(options, MemoryBlobs())
        try:
            yield provider
        finally:
            await provider.aclose()


async def waits_for(*, posted: int, cluster: FullCluster) -> None:
    while len(cluster.events) < posted:  # noqa: ASYNC110 - the server is another thread's
        await asyncio.sleep(0.01)


async def ended(*making: "asyncio.Task[Any]") -> None:
    for task in making:
        task.cancel()
    await asyncio.gather(*making, return_exceptions=True)


async def test_every_pod_that_is_nobodys_gives_way_while_one_waits(tmp_path: Path) -> None:
    cluster = FullCluster()
    async with provided(cluster, tmp_path, start_s=60) as provider:
        for name in ("blank-1", "blank-2", "blank-3"):
            provider._gone[BoxId(name)] = asyncio.get_running_loop().create_future()
            provider.warm._keep("another size", _Blank(BoxId(name), "", "", 0.0, {}))
        making = asyncio.create_task(provider.create(SPEC))
        while not provider._room.full:  # noqa: ASYNC110 - the watch is another thread's
            await asyncio.sleep(0.01)
        while provider.warm.idle:
            provider.foresee([SPEC])
            await asyncio.sleep(0.01)
        assert len(cluster.events) == 1  # none was asked for ahead
        await ended(making)
    assert {"blank-1", "blank-2", "blank-3"} <= cluster.deleted


async def test_a_pod_that_is_nobodys_is_no_reason_to_wait_for_longer(tmp_path: Path) -> None:
    cluster = FullCluster()
    cluster.run("blank", owner="")
    async with provided(cluster, tmp_path, start_s=1) as provider:
        with pytest.raises(SandboxError, match="Insufficient memory"):
            await provider.create(SPEC)


@pytest.mark.parametrize(
    "refusal",
    [
        {
            "code": 409,
            "reason": "Conflict",
            "message": 'Operation cannot be fulfilled on resourcequotas "boxes": the object has been modified; please apply your changes',
        },
        {"code": 403, "reason": "Forbidden", "message": 'pods "box-1" is forbidden: status unknown for quota: boxes, resources: pods'},
    ],
    ids=["counted by several at once", "not counted yet"],
)
async def test_a_quota_that_is_being_counted_costs_nothing_but_a_moment(tmp_path: Path, refusal: Json) -> None:
    refusals = [refusal, refusal]
    cluster = FullCluster()
    cluster.refuses = lambda method, path: refusals.pop() if refusals and method == "POST" and path.endswith("/pods") else None
    async with provided(cluster, tmp_path, start_s=60) as provider:
        before = provider._room.window
        making = asyncio.create_task(provider.create(SPEC))
        while refusals:  # noqa: ASYNC110 - the server is another thread's
            await asyncio.sleep(0.01)
        assert (provider._room.full, provider._room.window) == (False, before)
        await waits_for(posted=1, cluster=cluster)
        await ended(making)


async def test_boxes_without_a_place_let_others_be_asked_for_while_any_runs(tmp_path: Path) -> None:
    cluster = FullCluster()
    cluster.run("box", owner="envfarm")
    async with provided(cluster, tmp_path, start_s=1) as provider:
        before = provider.places
        making = [asyncio.create_task(provider.create(SPEC)) for _ in range(4)]
        await waits_for(posted=4, cluster=cluster)
        assert not any(task.done() for task in making)
        assert provider.places >= before + 2
        await ended(*making)


async def test_the_youngest_idle_pod_of_another_maker_gives_way_and_none_that_is_claimed(tmp_path: Path) -> None:
    cluster = FullCluster()
    cluster.run("another-farms", owner="", maker="other", farm="another")
    cluster.run("old", owner="", maker="other")
    cluster.run("young", owner="", maker="other")
    cluster.run("claimed", owner="envfarm", maker="other")
    async with provided(cluster, tmp_path, start_s=60) as provider:
        making = asyncio.create_task(provider.create(SPEC))
        while "young" not in cluster.deleted:  # noqa: ASYNC110 - the server is another thread's
            await asyncio.sleep(0.01)
        assert "old" in cluster.pods
        while "old" not in cluster.deleted:
            provider.foresee([SPEC])
            await asyncio.sleep(0.01)
        provider.foresee([SPEC])
        await ended(making)
    assert {"another-farms", "claimed"} <= cluster.pods.keys()


class ClaimedInTime(FullCluster):
    """Every idle pod that it tells of is claimed at once."""

    def answer(self, method: str, path: str, query: dict[str, str], body: Json) -> Any:
        said = super().answer(method, path, query, body)
        if "owner=," in query.get("labelSelector", ""):
            said = copy.deepcopy(said)
            for pod in said["items"]:
                super().answer("PATCH", f"/{pod['metadata']['name']}", {}, {"metadata": {"labels": {"envfarm.dev/owner": "envfarm"}}})
        return said


async def test_a_pod_that_another_maker_claims_meanwhile_is_spared(tmp_path: Path) -> None:
    cluster = ClaimedInTime()
    cluster.run("idle", owner="", maker="other")
    async with provided(cluster, tmp_path, start_s=60) as provider:
        making = asyncio.create_task(provider.create(SPEC))
        while provider._taking is None or not provider._taking.done():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)
        await ended(making)
    assert cluster.pods["idle"]["metadata"]["labels"]["envfarm.dev/owner"] == "envfarm"


class Claims(KubernetesProvider):
    """Says which pod would be claimed for a box."""

    async def _blank(self, spec: SandboxSpec, *, for_now: bool) -> _Blank:  # noqa: ARG002 - the method's
        return _Blank(BoxId("created for it"), "", "", 0.0, {})

    async def _claim(self, blank: _Blank, spec: SandboxSpec, checkout: bytes) -> BoxdBox:  # noqa: ARG002 - the method's
        raise SandboxError(blank.box_id)


@pytest.mark.parametrize(("days", "takes"), [(1, "ahead"), (30, "created for it")])
async def test_a_pod_made_ahead_is_for_boxes_that_it_outlives_and_is_labelled_as_it_is_claimed(
    tmp_path: Path, days: float, takes: str
) -> None:
    cluster = FullCluster()
    cluster.run("ahead", owner="")
    with served(cluster, tmp_path / "kubeconfig"):
        provider = Claims(KubernetesOptions(boxd_image="r/b", kubeconfig=str(tmp_path / "kubeconfig"), warm=1), MemoryBlobs())
        provider._gone[BoxId("ahead")] = asyncio.get_running_loop().create_future()
        provider.warm._keep(kubernetes._key(SPEC), _Blank(BoxId("ahead"), "", "", 0.0, {}))
        with pytest.raises(SandboxError, match=takes):
            await provider.create(SPEC.model_copy(update={"deadline": datetime.now(UTC) + timedelta(days=days)}))
        await asyncio.gather(*provider._background)
        labels = cluster.pods["ahead"]["metadata"]["labels"]
        assert labels["envfarm.dev/owner"] == ("envfarm" if takes == "ahead" else "")
        await provider.aclose()
