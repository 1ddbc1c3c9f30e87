"""Who is taken for dead: a maker that renews its lease no more, a node whose kubelet says nothing. And who was only not heard."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import BoxLost
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes import kubernetes, kubernetes_evidence
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.boxd_connection import Endpoint
from envfarm.sandboxes.kubernetes import KubernetesProvider
from envfarm.sandboxes.kubernetes_api import LIST_PAGE
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.testing.blobs import MemoryBlobs
from tests.unit.sandboxes.full_cluster import FullCluster, Json, served

LEASE_S = 5
SPEC = SandboxSpec(environment=Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(b"i"), reference="r/i@sha256:1")))


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


@asynccontextmanager
async def port(*, answers: bool) -> AsyncIterator[int]:
    """Of a boxd that answers, or takes connections and says nothing."""

    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            if answers:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    await asyncio.gather(*filter(None, serving))


@pytest.mark.parametrize(
    ("beside", "probe", "asked", "lost"),
    [
        ((False, False), True, True, False),
        ((False, False), False, True, True),
        ((False, True), False, False, False),
        ((), False, True, True),
        ((), None, True, False),
    ],
    ids=["all are silent but the probe", "and the probe", "one beside it answers", "alone with the probe", "none can be made"],
)
async def test_whether_the_way_to_a_node_is_broken_says_a_pod_that_no_agent_ever_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: tuple[bool, ...], probe: object, asked: object, lost: object
) -> None:
    monkeypatch.setattr(kubernetes_evidence, "EVIDENCE_S", 0.5)
    probes: list[str] = []

    async def ask(node: str) -> bool | None:
        probes.append(node)
        await asyncio.sleep(0.1)
        assert probe is None or isinstance(probe, bool)
        return probe

    cluster = FullCluster()
    async with AsyncExitStack() as stack, provided(cluster, tmp_path) as provider:
        alive = lease(provider.maker, ago_s=0)
        cluster.about = lambda _, path: alive if "kube-node-lease" in path else {"items": [alive]}
        boxes = []
        for n, answers in enumerate(beside):
            provider._gone[name := BoxId(f"box-{n}")] = asyncio.get_running_loop().create_future()
            endpoint = Endpoint(host="127.0.0.1", port=await stack.enter_async_context(port(answers=answers)))
            boxes.append(BoxdBox(name, provider._access(name, SPEC, "token", "127.0.0.1")._replace(endpoint=endpoint)))
        evidence = kubernetes_evidence.NodeEvidence(provider._api, ask)
        found = await asyncio.gather(*(evidence.trouble("n1", boxes) for _ in range(3)))
        await evidence.aclose()
        for box in boxes:
            box.disconnect()
    assert probes == ["n1"] * bool(asked), "boxes that fall silent together share one"
    for each in found:
        assert isinstance(each, BoxLost) is lost


def status(**main: Json) -> Json:
    return {"phase": "Pending", "podIP": "127.0.0.1", "containerStatuses": [{"name": "box", "image": "r/b", "state": main}]}


@pytest.mark.parametrize(
    ("becomes", "boxd", "expected"),
    [
        (None, True, None),
        (status(waiting={"reason": "ImagePullBackOff", "message": "not found"}), True, None),
        ({"phase": "Failed", "reason": "OutOfcpu"}, True, None),
        (status(running={}), True, True),
        (status(running={}), False, False),
        (status(running={}), None, False),
    ],
    ids=["it is never started", "its image cannot be had", "the node has no room", "it answers", "it is silent", "it refuses"],
)
async def test_a_probe_is_made_on_the_node_in_question_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: Json | None, boxd: object, expected: object
) -> None:
    monkeypatch.setattr(kubernetes, "PROBE_START_S", 2.0)
    monkeypatch.setattr(kubernetes, "PROBE_ANSWER_S", 0.1)
    monkeypatch.setattr(kubernetes, "EVIDENCE_S", 0.5)
    cluster = FullCluster()
    async with AsyncExitStack() as stack, provided(cluster, tmp_path) as provider:
        there = await stack.enter_async_context(port(answers=bool(boxd)))
        monkeypatch.setattr(kubernetes, "PORT", 9 if boxd is None else there)
        await provider.collect_left_overs()  # by then it watches
        asking = asyncio.create_task(provider._probe("n1"))
        async with asyncio.timeout(10):
            while not cluster.events:  # noqa: ASYNC110 - a server in another thread
                await asyncio.sleep(0.01)
        posted = cluster.events[0]["object"]
        assert posted["spec"]["nodeName"] == "n1"
        if becomes is not None:
            cluster.becomes(posted["metadata"]["name"], becomes)
        assert await asking is expected
    assert cluster.deleted == {posted["metadata"]["name"]}


@pytest.mark.parametrize(("ago_s", "lost"), [(5, False), (40, True)], ids=["it was heard of just now", "silent"])
async def test_a_node_that_is_still_called_ready_and_says_nothing_has_lost_its_boxes(tmp_path: Path, ago_s: float, lost: object) -> None:
    def about(method: str, path: str) -> Json:
        if "/nodes/" in path:
            return {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        return lease("", ago_s=ago_s) if "kube-node-lease" in path else {"items": []}

    cluster = FullCluster()
    cluster.about = about
    async with provided(cluster, tmp_path) as provider:
        found = await provider._evidence._status("n1")
    assert isinstance(found, BoxLost) is lost
    assert not lost or "node n1 has not renewed its lease" in str(found)
