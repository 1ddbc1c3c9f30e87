"""Whose fault the end of a pod is, by what clusters say."""

from typing import Any

import pytest

from envfarm.core.errors import BoxBroken, BoxLost, BuildOutage, EnvfarmError, SandboxError
from envfarm.sandboxes import kubernetes_status


def pod(*, main: dict[str, Any] | None = None, deleted: str = "", **status: Any) -> dict[str, Any]:
    meta = {"name": "box-1", **({"deletionTimestamp": deleted} if deleted else {})}
    containers = [{"name": "box", "image": "i", "state": main}] if main else []
    spec = {"nodeName": "n1", "runtimeClassName": "any"}
    return {"metadata": meta, "spec": spec, "status": {"containerStatuses": containers, **status}}


OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
KILLED = {"terminated": {"reason": "Error", "exitCode": 137}}
TAKEN = [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "preempted for another"}]


@pytest.mark.parametrize(
    ("seen", "gone", "error", "words"),
    [
        (pod(main=OOM, phase="Failed"), False, BoxBroken, "OOMKilled"),
        (pod(main=OOM, deleted="now"), True, BoxBroken, "OOMKilled"),
        (pod(main=KILLED, phase="Failed"), False, BoxLost, "killed from outside"),
        (pod(main={"terminated": {"reason": "Error", "exitCode": 2}}, phase="Failed"), False, BoxBroken, "exit code 2"),
        (pod(main=KILLED, deleted="2026-01-01"), False, BoxLost, "deleted at 2026-01-01"),
        (pod(main={"running": {}}), True, BoxLost, "deleted"),
        (pod(main=OOM, conditions=TAKEN), False, BoxLost, "PreemptionByScheduler: preempted for another"),
        (pod(phase="Failed", reason="Evicted", message="ephemeral storage"), False, BoxBroken, "ephemeral storage"),
        (pod(phase="Failed", reason="Evicted", conditions=TAKEN), False, BoxLost, "taken away"),
        (pod(main=KILLED, phase="Failed", reason="NodeShutdown", message="bye"), False, BoxLost, "NodeShutdown: bye"),
        (pod(main={"terminated": {"reason": "ContainerStatusUnknown"}}, phase="Failed"), False, BoxLost, "reports no reason"),
        (pod(main=KILLED, phase="Failed", reason="DeadlineExceeded"), False, BoxLost, "deadline"),
        (pod(phase="Failed", reason="OutOfcpu"), False, BoxLost, "OutOfcpu"),
    ],
)
def test_whose_fault_an_end_is(seen: dict[str, Any], gone: bool, error: type[EnvfarmError], words: str) -> None:  # noqa: FBT001
    told = kubernetes_status.end(seen, gone=gone, own_kernel=False)
    assert type(told) is error
    assert words in str(told)
    assert "pod box-1 on n1" in str(told)


def test_behind_a_kernel_of_its_own_a_box_may_have_killed_itself_and_a_deletion_is_still_a_loss() -> None:
    killed = kubernetes_status.end(pod(main=KILLED, phase="Failed"), gone=False, own_kernel=True)
    assert type(killed) is BoxBroken
    assert "exit code 137" in str(killed)
    assert type(kubernetes_status.end(pod(main=KILLED, deleted="now"), gone=False, own_kernel=True)) is BoxLost


def test_a_pod_that_runs_has_not_ended_and_has_an_address() -> None:
    running = pod(main={"running": {"startedAt": "now"}}, podIP="10.0.0.7", phase="Running")
    assert kubernetes_status.end(running, gone=False, own_kernel=False) is None
    assert kubernetes_status.address(running) == "10.0.0.7"
    assert kubernetes_status.address(pod(main={"waiting": {"reason": "PodInitializing"}}, podIP="10.0.0.7")) is None


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_will_not_come_is_told_at_once(reason: str) -> None:
    with pytest.raises(BuildOutage, match=f"{reason}: no such"):
        kubernetes_status.address(pod(main={"waiting": {"reason": reason, "message": "no such"}}))


@pytest.mark.parametrize(
    "said",
    [
        "failed to resolve reference: unexpected status from GET request to https://r/v2/i/manifests/sha256:1: 429 Too Many Requests",
        "failed to do request: Get https://r/v2/: dial tcp 10.0.0.1:443: connect: connection refused",
        "unexpected status code https://r/v2/: 503 Service Unavailable",
    ],
)
def test_a_registry_that_is_away_is_waited_for(said: str) -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "i": ErrImagePull: {said}'}}
    assert kubernetes_status.address(pod(main=waiting)) is None


def test_a_pod_that_ends_before_its_box_began_is_no_agents_fault() -> None:
    with pytest.raises(SandboxError, match="ended before"):
        kubernetes_status.address(pod(main=OOM, phase="Failed"))


def test_what_keeps_a_pod_from_starting_is_in_the_error() -> None:
    waiting = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
    assert "0/3 nodes" in str(kubernetes_status.why_not_started(pod(conditions=waiting), after_s=5))
    pulling = kubernetes_status.why_not_started(pod(main={"waiting": {"reason": "ErrImagePull", "message": "slow"}}), after_s=5)
    assert isinstance(pulling, BuildOutage)
    assert "watch" in str(kubernetes_status.why_not_started(None, after_s=5))
