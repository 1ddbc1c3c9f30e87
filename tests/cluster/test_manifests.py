"""What holds for every overlay, read from what kubectl renders of it."""

import tomllib
from pathlib import Path

import pytest

from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from tests.cluster.rendered import OVERLAYS, pods, rendered, with_more

pytestmark = pytest.mark.cluster
EVERY = pytest.mark.parametrize("overlay", OVERLAYS)


@EVERY
def test_pods_get_no_more_than_they_need(overlay: str) -> None:
    for name, spec in pods(rendered(overlay)):
        context = spec["securityContext"]
        assert context["seccompProfile"]["type"] == "RuntimeDefault", name
        assert not any(spec.get(host) for host in ("hostNetwork", "hostPID", "hostIPC")), name
        assert spec["enableServiceLinks"] is False, name
        for container in spec["containers"]:
            held = container["securityContext"]
            assert held["allowPrivilegeEscalation"] is False, name
            assert held["readOnlyRootFilesystem"] is True, name
            assert held["capabilities"]["drop"] == ["ALL"], name
            assert not held.get("privileged"), name
            assert container["resources"]["requests"]["memory"], name
            assert container["resources"]["limits"]["memory"], name
            # the one exception gives a node's folder to the farm, in a namespace of its own that reaches nothing
            assert context.get("runAsNonRoot") is True or (name == "DaemonSet/folders" and "CHOWN" in held["capabilities"]["add"]), name


@EVERY
def test_what_listens_is_probed(overlay: str) -> None:
    for name, spec in pods(rendered(overlay)):
        if name.startswith("RayCluster"):
            continue  # KubeRay writes probes of its own
        for container in spec["containers"]:
            if "ports" in container:
                assert {"readinessProbe", "livenessProbe", "startupProbe"} <= container.keys(), name


@EVERY
def test_one_api_alone_is_there_for_what_trainers_drive(overlay: str) -> None:
    """Any of several could claim such an episode, and its calls reach another (docs/adr/0059)."""
    assert [o["spec"]["replicas"] for o in rendered(overlay) if (o["kind"], o["metadata"]["name"]) == ("Deployment", "api")] == [1]


@EVERY
def test_accounts_have_tokens_only_where_boxes_are_made(overlay: str) -> None:
    for name, spec in pods(rendered(overlay)):
        makes_boxes = spec.get("serviceAccountName") == "farm"
        assert spec["automountServiceAccountToken"] is makes_boxes, name


@EVERY
def test_roles_have_no_wildcard_and_outside_the_farms_namespaces_look_at_nodes_and_their_leases_alone(overlay: str) -> None:
    objects = rendered(overlay)
    wide = [rule for o in objects if o["kind"] == "ClusterRole" for rule in o["rules"]]
    assert wide == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    of_nodes = [o["rules"] for o in objects if o["kind"] == "Role" and o["metadata"]["namespace"] == "kube-node-lease"]
    assert of_nodes == [[{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get"]}]]
    for role in (o for o in objects if o["kind"] == "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


@EVERY
def test_every_namespace_denies_what_is_not_allowed_and_names_its_pod_security(overlay: str) -> None:
    objects = rendered(overlay)
    denying = {
        o["metadata"]["namespace"]
        for o in objects
        if o["kind"] == "NetworkPolicy" and o["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    namespaces = {o["metadata"]["name"]: o["metadata"]["labels"] for o in objects if o["kind"] == "Namespace"}
    assert denying == set(namespaces)
    levels = {name: labels["pod-security.kubernetes.io/enforce"] for name, labels in namespaces.items()}
    assert levels.pop("envfarm-local", "privileged") == "privileged"
    assert levels == {"envfarm": "restricted", "envfarm-boxes": "baseline"}


@EVERY
def test_nothing_leaves_boxes(overlay: str) -> None:
    policies = [o for o in rendered(overlay) if o["kind"] == "NetworkPolicy" and o["metadata"]["namespace"] == "envfarm-boxes"]
    assert policies
    assert not [p["metadata"]["name"] for p in policies if p["spec"].get("egress")]


@EVERY
def test_no_secret_is_in_the_tree(overlay: str) -> None:
    assert not [o["metadata"]["name"] for o in rendered(overlay) if o["kind"] == "Secret"]


@EVERY
def test_a_private_registrys_secret_can_be_made_for_boxes_and_is_used_by_all_of_the_farms_own_pods(overlay: str, tmp_path: Path) -> None:
    objects = with_more(tmp_path, overlay, "private")
    quotas = [o["spec"]["hard"] for o in objects if o["kind"] == "ResourceQuota" and o["metadata"]["namespace"] == "envfarm-boxes"]
    assert [int(hard.get("secrets", "1")) > 0 for hard in quotas] == [True]
    without = [name for name, spec in pods(objects) if spec.get("imagePullSecrets") != [{"name": "farm-pull"}]]
    assert without == []


@EVERY
def test_boxes_and_farm_have_priorities_that_are_there(overlay: str) -> None:
    objects = rendered(overlay)
    there = {o["metadata"]["name"] for o in objects if o["kind"] == "PriorityClass"}
    (options,) = [tomllib.loads(o["data"]["kubernetes.toml"]) for o in objects if "kubernetes.toml" in o.get("data", {})]
    assert there == {options["priority_class"], *(spec["priorityClassName"] for _, spec in pods(objects) if "priorityClassName" in spec)}
    KubernetesOptions.model_validate(options)


@EVERY
def test_whoever_plays_is_not_drained_away_at_once(overlay: str) -> None:
    """Kubernetes counts what should be there for its own kinds alone: elsewhere a budget says how many must stay."""
    objects = rendered(overlay)
    budgets = {o["spec"]["selector"]["matchLabels"]["envfarm.dev/part"]: o["spec"] for o in objects if o["kind"] == "PodDisruptionBudget"}
    assert {"api", "ray-worker"} <= budgets.keys()
    by_kuberay = any(o["kind"] == "RayCluster" for o in objects)
    assert ("minAvailable" in budgets["ray-worker"]) is by_kuberay


PULLED = """
- target: {kind: DaemonSet, name: prepull}
  patch: |-
    - {op: add, path: /spec/template/spec/initContainers, value: [{name: first, image: "r/i@sha256:1", command: ["true"]}]}
"""


def test_images_to_have_on_nodes_are_listed_by_a_patch(tmp_path: Path) -> None:
    objects = with_more(tmp_path, "production", "prepull", patches=PULLED)
    (prepull,) = [o for o in objects if o["kind"] == "DaemonSet"]
    assert [each["image"] for each in prepull["spec"]["template"]["spec"]["initContainers"]] == ["r/i@sha256:1"]
