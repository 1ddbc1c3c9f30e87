"""A pod's manifest, and the file of options."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import UsageError
from envfarm.core.ids import EpisodeId, RunId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import Network, SandboxSpec
from envfarm.sandboxes import kubernetes_options, kubernetes_pod
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_pod import Maker

SPEC = SandboxSpec(environment=Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(b"i"), reference="r/i@sha256:1")))
OPTIONS = KubernetesOptions(
    boxd_image="r/boxd@sha256:2", runtime_class="gvisor", own_kernel=True, node_selector={"pool": "boxes"}, cpu_requested=0.25
)


def manifest(spec: SandboxSpec, *, ahead: bool = False) -> dict:  # type: ignore[type-arg]
    maker = Maker("farm", "m")
    return kubernetes_pod.manifest(spec, "box-m-1", token_digest="d" * 64, maker=maker, options=OPTIONS, now=1_000.0, ahead=ahead)


def test_what_labels_cannot_hold_is_whole_in_annotations_and_found_by_its_digest() -> None:
    spec = SPEC.model_copy(update={"run_id": RunId("a run / of ours" * 10), "deadline": datetime(2100, 1, 1, tzinfo=UTC)})
    made = manifest(spec)
    annotations = made["metadata"]["annotations"]
    assert (annotations["envfarm.dev/run"], annotations["envfarm.dev/deadline"]) == (spec.run_id, "2100-01-01T00:00:00+00:00")
    for value in made["metadata"]["labels"].values():
        assert kubernetes_pod.LABEL_VALUE.fullmatch(value)
    assert made["metadata"]["labels"]["envfarm.dev/run"] in kubernetes_pod.selector(run=spec.run_id)
    assert made["spec"]["activeDeadlineSeconds"] == kubernetes_pod.LONGEST_LIFE_S


def test_a_pod_made_ahead_ends_by_itself_and_its_claim_asks_for_no_longer_life() -> None:
    life_s = manifest(SPEC, ahead=True)["spec"]["activeDeadlineSeconds"]
    longest_s = kubernetes_pod.LONGEST_AHEAD_S
    for age_s, needed_s in [(0.0, 3600.0), (longest_s, longest_s - kubernetes_pod.AFTER_DEADLINE_S), (longest_s + 900, longest_s - 600)]:
        now = 1_000.0 + age_s
        spec = SPEC.model_copy(update={"deadline": datetime.fromtimestamp(now + needed_s, UTC)})
        assert kubernetes_pod.lasts(spec, now=now)
        asked_s = kubernetes_pod.claim(spec, maker=Maker("farm", "m"), now=now, age_s=age_s)["spec"]["activeDeadlineSeconds"]
        assert needed_s <= asked_s - age_s + 900
        assert asked_s <= life_s, "the API server would refuse it, labels and all"
    assert not kubernetes_pod.lasts(SPEC.model_copy(update={"deadline": datetime.fromtimestamp(1_000.0 + longest_s, UTC)}), now=1_000.0)


def test_a_box_may_do_nothing_to_its_cluster() -> None:
    made = manifest(SPEC)["spec"]
    main = made["containers"][0]
    probe = kubernetes_pod.probe("w", "n1", token_digest="0" * 64, maker=Maker("farm", "m"), options=OPTIONS)["spec"]
    assert probe["nodeName"] == "n1"
    for pod in (made, probe):
        assert not pod["automountServiceAccountToken"]
        assert not pod["enableServiceLinks"]
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert pod["dnsConfig"]["nameservers"] == ["127.0.0.1"]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert main["resources"]["limits"]["cpu"] == "1000m"
    assert main["resources"]["requests"] == {**main["resources"]["limits"], "cpu": "250m"}
    assert made["runtimeClassName"] == "gvisor"
    assert "tolerations" not in made
    assert manifest(SPEC.model_copy(update={"network": Network.OPEN}))["spec"]["dnsPolicy"] == "Default"


def test_a_pod_with_another_boxd_or_of_another_episode_is_not_adopted() -> None:
    spec = SPEC.model_copy(update={"episode_id": EpisodeId("e-1")})
    pod = {**manifest(spec), "status": {"phase": "Running", "podIP": "10.0.0.1", "startTime": "2026-01-01T00:00:00Z"}}
    mine = OPTIONS.model_copy(update={"farm": "farm"})
    assert kubernetes_pod.is_adoptable(pod, spec, options=mine, now=1_000.0)
    assert not kubernetes_pod.is_adoptable(pod, SPEC, options=mine, now=1_000.0)
    for other in ({"boxd_image": "r/boxd@sha256:3"}, {"farm": "another"}):
        assert not kubernetes_pod.is_adoptable(pod, spec, options=mine.model_copy(update=other), now=1_000.0)


def test_runs_get_the_images_variables_and_none_of_the_clusters() -> None:
    variables = ["PATH=/opt/bin", "KUBERNETES_SERVICE_HOST=10.96.0.1", "HOSTNAME=box", "OF_IMAGE=1"]
    said = kubernetes_pod.config(SPEC, variables=variables, seccomp=b"")
    assert {"PATH": "/opt/bin", "OF_IMAGE": "1"}.items() <= said["exec_env"].items()
    assert not any(name.startswith("KUBERNETES") or name == "HOSTNAME" for name in said["exec_env"])
    assert "token" not in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('boxd_image = "i"\nnamespace = "Not A Name"', "namespace"),
        ('boxd_image = "i"\nruntime = "gvisor"', "runtime"),
        ('namespace = "boxes"', "boxd_image"),
        ("boxd_image = ", "Invalid value"),
        ('boxd_image = "i"\nruntime_class = "kata"', "own_kernel is missing: set it to true if the runtime class 'kata' is gVisor or Kata"),
        ('boxd_image = "i"\ntolerations = [{ operator = "Sometimes" }]', "tolerations.0.operator"),
    ],
)
def test_a_wrong_option_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "options.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=words) as told:
        kubernetes_options.load(file)
    assert str(file) in str(told.value)


def test_no_file_of_options_says_which_variable_names_it() -> None:
    with pytest.raises(UsageError, match="ENVFARM_KUBERNETES"):
        kubernetes_options.load(None)
