"""The conformance suite on pods, and what is a cluster's own: loss and its evidence, left-overs, images, walls that are not there."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from envfarm.core import digest
from envfarm.core.errors import BoxBroken, BoxLost, ImageError, SandboxError
from envfarm.core.ids import EpisodeId, ExecId, RunId
from envfarm.core.image import ImageRef
from envfarm.core.sandbox import ExecRequest
from envfarm.episodes.tools import commands_of
from envfarm.sandboxes.kubernetes import KubernetesProvider
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_pod import PORT
from envfarm.testing.conformance import CAPABILITIES, CHECKS, Check
from tests.chaos.cluster.faults.boxes import firewall
from tests.contract import kubernetes_cluster as cluster
from tests.contract.conftest import Factory

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
HAS = CAPABILITIES - {"no device"}
ON_GVISOR = {
    "exit_codes_and_signals",
    "standard_input_ends",
    "quiescence_is_proven",
    "the_network_is_closed",
    "the_agent_is_not_privileged",
}


@pytest.fixture(scope="session")
def images(boxd: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    cluster.skip_without_cluster()
    return cluster.push_boxd(boxd, tmp_path_factory.mktemp("boxd")), cluster.push(cluster.IMAGE, "library/python:3.11-slim")


@pytest.fixture(scope="session")
def options(images: tuple[str, str]) -> Iterator[KubernetesOptions]:
    with cluster.namespace() as name:
        yield KubernetesOptions(boxd_image=images[0], namespace=name, start_s=120, cpu_requested=0.02)


@pytest.fixture
def factory(images: tuple[str, str]) -> Factory:
    return Factory(ImageRef(kind="oci", digest=digest.of_bytes(images[1].encode()), reference=images[1]))


@pytest.fixture
async def provider(options: KubernetesOptions, factory: Factory) -> AsyncIterator[KubernetesProvider]:
    provider = KubernetesProvider(options, factory.blobs)
    factory.look = lambda: names(pods(options.namespace))
    yield provider
    await provider.aclose()


@pytest.mark.parametrize("check", [check for check in CHECKS if check.needs <= HAS], ids=lambda check: check.name)
async def test_it_conforms(check: Check, provider: KubernetesProvider, factory: Factory) -> None:
    await check.run(provider, factory)


@pytest.mark.parametrize("check", [check for check in CHECKS if check.name in ON_GVISOR], ids=lambda check: check.name)
async def test_it_conforms_on_gvisor(check: Check, options: KubernetesOptions, factory: Factory) -> None:
    provider = KubernetesProvider(options.model_copy(update={"runtime_class": "gvisor", "own_kernel": True}), factory.blobs)
    try:
        await check.run(provider, factory)
    finally:
        await provider.aclose()


@pytest.mark.parametrize(("runtime_class", "tells"), [("", True), ("gvisor", False)], ids=["runc", "gVisor"])
async def test_a_pod_tells_where_the_time_of_a_command_went_and_a_kernel_in_between_does_not(
    options: KubernetesOptions, factory: Factory, runtime_class: str, tells: object
) -> None:
    provider = KubernetesProvider(
        options.model_copy(update={"runtime_class": runtime_class, "own_kernel": bool(runtime_class)}), factory.blobs
    )
    try:
        box = await provider.create(factory.spec())
        result = await box.exec(ExecRequest(shell="while :; do :; done", cwd="/", timeout_s=1))
    finally:
        await provider.aclose()
    assert result.timed_out
    assert (result.contention is not None) is tells
    assert result.contention is None or result.contention.box_cpu_s > 0


@asynccontextmanager
async def warmed(options: KubernetesOptions, factory: Factory) -> AsyncIterator[KubernetesProvider]:
    """A provider of which two boxes have been foreseen, and are there."""
    provider = KubernetesProvider(options.model_copy(update={"warm": 2}), factory.blobs)
    await (await provider.create(factory.spec())).close()
    provider.foresee([factory.spec(), factory.spec()])
    try:
        async with asyncio.timeout(120):
            while provider.warm.idle < 2:  # noqa: ASYNC110 - nobody waits for it but tests
                await asyncio.sleep(0.1)
        yield provider
    finally:
        await provider.aclose()


def pods(namespace: str, selector: str = "envfarm.dev/part=box") -> list[dict[str, Any]]:
    said = cluster.run("kubectl", "get", "pods", "-n", namespace, "-l", selector, "-o", "json")
    return [pod for pod in json.loads(said)["items"] if not pod["metadata"].get("deletionTimestamp")]


def pods_of(namespace: str, provider: KubernetesProvider) -> list[dict[str, Any]]:
    return pods(namespace, f"envfarm.dev/maker={provider.maker}")


def names(found: list[dict[str, Any]]) -> set[str]:
    return {pod["metadata"]["name"] for pod in found}


@pytest.mark.parametrize("check", [check for check in CHECKS if check.name in ON_GVISOR], ids=lambda check: check.name)
async def test_a_box_that_was_made_ahead_conforms(check: Check, options: KubernetesOptions, factory: Factory) -> None:
    async with warmed(options, factory) as provider:
        await check.run(provider, factory)


async def test_what_was_foreseen_is_claimed_and_no_pod_is_made(options: KubernetesOptions, factory: Factory) -> None:
    async with warmed(options, factory) as provider:
        before = names(pods_of(options.namespace, provider))
        spec = factory.spec().model_copy(update={"epoch": 7})
        environment = spec.environment.model_copy(update={"env": {"COLOUR": "blue"}})
        specs = [spec.model_copy(update={"environment": environment, "run_id": RunId(f"run-{n}")}) for n in range(2)]
        boxes = [await provider.create(each) for each in specs]
        assert {box.box_id for box in boxes} == before
        assert (await boxes[0].exec(ExecRequest(shell="echo $COLOUR"))).stdout == b"blue\n"
        with pytest.raises(SandboxError):
            await boxes[0].with_epoch(6).exec(ExecRequest(argv=("true",)))
        assert names(pods_of(options.namespace, provider)) == before
        async with asyncio.timeout(20):
            said = ("envfarm.dev/owner=envfarm", "envfarm.dev/run in (run-0,run-1)")
            while names(await asyncio.to_thread(pods, options.namespace, ",".join(said))) != before:  # noqa: ASYNC110 - told behind the claim
                await asyncio.sleep(0.2)
    assert pods_of(options.namespace, provider) == []


async def test_a_pod_that_is_deleted_under_a_command_is_lost_and_the_error_says_why(
    provider: KubernetesProvider, options: KubernetesOptions, factory: Factory
) -> None:
    box = await provider.create(factory.spec())
    running = asyncio.ensure_future(box.exec(ExecRequest(shell="sleep 100", timeout_s=200)))
    await box.exec(ExecRequest(argv=("true",)))
    await asyncio.to_thread(cluster.run, "kubectl", "delete", "pod", "-n", options.namespace, box.box_id, "--wait=false")
    with pytest.raises(BoxLost, match="was deleted at") as told:
        async with asyncio.timeout(30):
            await running
    assert box.box_id in str(told.value)


async def test_a_pod_that_is_killed_at_its_own_limit_of_memory_is_broken_and_not_lost(
    provider: KubernetesProvider, factory: Factory
) -> None:
    box = await provider.create(factory.spec().model_copy(update={"memory_mib": 8, "disk_mib": 8}))
    # What boxd must keep of this is more than the whole pod may hold.
    with pytest.raises(BoxBroken, match="OOMKilled"):
        await box.exec(ExecRequest(shell="head -c 60000000 /dev/urandom", output_bytes=64 << 20))


@contextmanager
def unreachable(*where: str) -> Iterator[None]:
    """The boxds there, for this machine: what is sent to them is dropped."""
    rule = ("OUTPUT", "-p", "tcp", *where, "--dport", str(PORT), "-j", "DROP")
    firewall("-I", *rule)
    try:
        yield
    finally:
        firewall("-D", *rule)


async def test_a_pod_that_is_made_to_be_asked_answers_on_gvisor_too(options: KubernetesOptions, factory: Factory) -> None:
    provider = KubernetesProvider(options.model_copy(update={"runtime_class": "gvisor", "own_kernel": True}), factory.blobs)
    box = await provider.create(factory.spec())
    (pod,) = pods_of(options.namespace, provider)
    assert await provider._probe(pod["spec"]["nodeName"]) is True
    await asyncio.gather(*provider._background)  # which removes the probe
    assert names(pods_of(options.namespace, provider)) == {box.box_id}
    await provider.aclose()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: packets to boxes are dropped by iptables")
async def test_boxes_that_are_silent_together_are_not_believed_and_a_broken_way_is_told(
    provider: KubernetesProvider, options: KubernetesOptions, factory: Factory
) -> None:
    boxes = [await provider.create(factory.spec()) for _ in range(3)]
    addresses = [pod["status"]["podIP"] for pod in pods_of(options.namespace, provider)]
    with unreachable("-d", ",".join(addresses)):
        await asyncio.gather(*(provider._look(box.box_id) for box in boxes))
    for box in boxes:
        assert (await box.exec(ExecRequest(argv=("true",)))).ok
    with unreachable():
        await provider._look(boxes[0].box_id)
    with pytest.raises(BoxLost, match="neither can a pod that was made there for this question"):
        await boxes[0].exec(ExecRequest(argv=("true",)))
    assert (await boxes[1].exec(ExecRequest(argv=("true",)))).ok
    await asyncio.gather(*provider._background)
    assert names(pods_of(options.namespace, provider)) <= {box.box_id for box in boxes}, "probes are removed"


async def test_a_dead_makers_pod_is_collected_and_a_living_ones_is_not(
    provider: KubernetesProvider, options: KubernetesOptions, factory: Factory
) -> None:
    short = options.model_copy(update={"farm": "left-over", "lease_s": 5})
    dead, living = KubernetesProvider(short, factory.blobs), KubernetesProvider(short, factory.blobs)
    left, kept, other = await asyncio.gather(*(each.create(factory.spec()) for each in (dead, living, provider)))
    assert await living.collect_left_overs() == 0
    await dead._lease.stop()  # what becomes of the lease of a process that is killed
    async with asyncio.timeout(60):
        while dead._maker.maker in await living._lease.living():  # noqa: ASYNC110 - a lease that lapses is no event
            await asyncio.sleep(0.5)
    assert {left.box_id, kept.box_id, other.box_id} <= set(await factory.boxes())
    assert await living.collect_left_overs() == 1
    assert left.box_id not in await factory.boxes()
    for box in (kept, other):
        assert (await box.exec(ExecRequest(argv=("true",)))).ok
    await dead.aclose()
    await living.aclose()


async def test_a_box_goes_on_with_another_process_and_the_one_that_made_it_lets_it_be(options: KubernetesOptions, factory: Factory) -> None:
    maker, other = providers_of_one_farm(options, factory)
    spec = factory.spec().model_copy(update={"episode_id": EpisodeId("e-1"), "epoch": 1})
    first = await maker.create(spec)
    await first.mark(["/home/agent"])
    said = ExecRequest(shell="cd /tmp; colour=blue; echo 1 >/home/agent/made", session="agent", exec_id=ExecId("step-0"))
    assert (await first.exec(said)).ok
    await first.quiesce()

    second = await other.adopt(spec.model_copy(update={"epoch": 2}), first.box_id, but=commands_of(1))
    assert second is not None
    assert (await second.exec(said)).ok, "it is not run again, though the shell is gone"
    assert (await second.exec(ExecRequest(shell="cat /home/agent/made"))).stdout == b"1\n"
    assert (await second.diff()).paths == ("home/agent/made",)
    with pytest.raises(BoxLost, match=r"fenced|was deleted"):  # its watch, too, says that it is no more its own
        await first.exec(ExecRequest(argv=("true",)))
    await first.close()
    await maker.aclose()
    assert await other.collect_left_overs() == 0
    assert (await second.exec(ExecRequest(argv=("true",)))).ok
    late = KubernetesProvider(other._options, factory.blobs, key=other._key)
    with pytest.raises(SandboxError, match="fenced"):  # it had slept past a lease, and another host was quicker
        await late.adopt(spec.model_copy(update={"epoch": 1}), first.box_id, but=commands_of(1))
    await late.aclose()
    assert (await second.exec(ExecRequest(argv=("true",)))).ok
    assert names(pods_of(options.namespace, other)) == {first.box_id}
    await second.close()
    assert pods_of(options.namespace, other) == []
    await other.aclose()


async def test_boxes_that_are_left_outlive_their_maker_and_those_that_nobody_adopts_are_collected(
    options: KubernetesOptions, factory: Factory
) -> None:
    maker, other = providers_of_one_farm(options, factory)
    specs = [factory.spec().model_copy(update={"episode_id": EpisodeId(f"e-{n}"), "epoch": 1}) for n in range(3)]
    wanted, unwanted, closed = [await maker.create(spec) for spec in specs]
    await maker.leave(wanted.box_id)
    await maker.leave(unwanted.box_id)
    await maker.aclose()
    left = {wanted.box_id, unwanted.box_id}
    assert names(pods(options.namespace)) & {*left, closed.box_id} == left
    adopted = await other.adopt(specs[0].model_copy(update={"epoch": 2}), wanted.box_id, but=commands_of(0))
    assert adopted is not None
    async with asyncio.timeout(60):
        while await other.collect_left_overs() == 0:  # noqa: ASYNC110 - a lease that lapses is no event
            await asyncio.sleep(1)
    assert names(pods(options.namespace)) & left == {wanted.box_id}
    assert (await adopted.exec(ExecRequest(argv=("true",)))).ok
    await other.aclose()
    assert names(pods(options.namespace)) & left == set()


async def test_a_box_is_not_adopted_by_another_episode_and_removed_where_it_has_gone_on(
    options: KubernetesOptions, factory: Factory
) -> None:
    maker, other = providers_of_one_farm(options, factory)
    spec = factory.spec().model_copy(update={"episode_id": EpisodeId("e-1"), "epoch": 1})
    box = await maker.create(spec)
    await box.exec(ExecRequest(argv=("true",), exec_id=ExecId("step-0.write")))
    assert await other.adopt(spec.model_copy(update={"episode_id": EpisodeId("e-2")}), box.box_id, but=commands_of(0)) is None
    assert (await box.exec(ExecRequest(argv=("true",)))).ok
    stranger = KubernetesProvider(maker._options, factory.blobs)
    assert await other.adopt(spec.model_copy(update={"epoch": 2}), box.box_id, but=commands_of(0)) is None
    assert await other.adopt(spec.model_copy(update={"epoch": 3}), box.box_id, but=commands_of(0)) is None, "it is gone"
    assert box.box_id not in names(pods(options.namespace))
    box = await maker.create(spec)
    with pytest.raises(SandboxError, match="unauthorized"):
        await stranger.adopt(spec.model_copy(update={"epoch": 2}), box.box_id, but=commands_of(0))
    for each in (maker, other, stranger):
        await each.aclose()


def providers_of_one_farm(options: KubernetesOptions, factory: Factory) -> tuple[KubernetesProvider, KubernetesProvider]:
    key, own = secrets.token_bytes(32), options.model_copy(update={"farm": "adopting", "lease_s": 5})
    return KubernetesProvider(own, factory.blobs, key=key), KubernetesProvider(own, factory.blobs, key=key)


async def test_an_image_that_cannot_be_had_is_an_image_error(options: KubernetesOptions, factory: Factory) -> None:
    image = ImageRef(kind="oci", digest=digest.of_bytes(b"none"), reference="localhost:5000/no/such:image")
    provider = KubernetesProvider(options.model_copy(update={"start_s": 60}), factory.blobs)
    spec = Factory(image).spec()
    with pytest.raises(ImageError, match="no/such"):
        await provider.create(spec)
    assert pods_of(options.namespace, provider) == []
    await provider.aclose()


async def test_what_no_node_can_hold_is_told_with_the_schedulers_words(options: KubernetesOptions, factory: Factory) -> None:
    provider = KubernetesProvider(options.model_copy(update={"start_s": 3}), factory.blobs)
    with pytest.raises(SandboxError, match="Insufficient memory"):
        await provider.create(factory.spec().model_copy(update={"memory_mib": 1 << 22}))
    await provider.aclose()


async def test_a_box_is_refused_where_no_policy_closes_its_network(images: tuple[str, str], factory: Factory) -> None:
    with cluster.namespace(policies=False) as name:
        provider = KubernetesProvider(KubernetesOptions(boxd_image=images[0], namespace=name, cpu_requested=0.02), factory.blobs)
        with pytest.raises(SandboxError, match="a closed box reaches"):
            await provider.create(factory.spec())
        await provider.aclose()


async def test_a_makers_lease_is_renewed(options: KubernetesOptions, factory: Factory) -> None:
    provider = KubernetesProvider(options.model_copy(update={"farm": "renewed", "lease_s": 5}), factory.blobs)
    await provider.collect_left_overs()
    (before,) = await provider._lease._leases()
    async with asyncio.timeout(30):
        while (await provider._lease._leases())[0]["spec"]["renewTime"] == before["spec"]["renewTime"]:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.2)
    assert provider._maker.maker in await provider._lease.living()
    await provider.aclose()


async def test_the_token_is_nowhere_in_the_cluster_or_the_pod(
    provider: KubernetesProvider, options: KubernetesOptions, factory: Factory
) -> None:
    box = await provider.create(factory.spec())
    token = box._access.token
    assert token not in await asyncio.to_thread(cluster.run, "kubectl", "get", "pod", "-n", options.namespace, box.box_id, "-o", "json")
    seen = await box.exec(ExecRequest(argv=("sh", "-c", "env; cat /proc/1/cmdline /proc/1/environ; ls /var/run/secrets")))
    assert token.encode() not in seen.stdout
    assert b"KUBERNETES" not in seen.stdout
    assert b"Permission denied" in seen.stderr
    of_image = json.loads(cluster.run("docker", "image", "inspect", cluster.IMAGE, "--format", "{{json .Config.Env}}"))
    assert set(of_image) <= set(seen.stdout.decode().splitlines())
