"""What holds for every overlay, read from what kubectl renders of it."""

import tomllib
from pathlib import Path

import pytest
import yaml

from envfarm.cli.hosts import hosts
from envfarm.core.sandbox import SandboxSpec
from envfarm.core.task import Limits
from envfarm.sandboxes.kubernetes_options import KubernetesOptions
from envfarm.sandboxes.kubernetes_pod import Maker, manifest
from envfarm.testing.factories import make_environment
from tests.cluster.rendered import MANIFESTS, OVERLAYS, pods, rendered, with_more

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


@EVERY
def test_whoever_has_hosts_ends_them_before_it_ends(overlay: str) -> None:
    for name, spec in pods(rendered(overlay)):
        if name not in {"Deployment/ray-worker", "RayCluster/ray hosts"}:
            continue
        (container,) = spec["containers"]
        leaves = container["lifecycle"]["preStop"]["exec"]["command"]
        assert "--drain-node" in leaves
        assert spec["terminationGracePeriodSeconds"] >= 2 * float(leaves[leaves.index("--grace") + 1]) + 30
        with hosts.make_context("hosts", leaves[2:]) as asked:  # it is what `envfarm hosts` understands
            assert asked.params["drain_node"]
            assert asked.params["address"] == "auto"


@EVERY
def test_of_drivers_there_is_one_at_a_time(overlay: str) -> None:
    (driver,) = [o for o in rendered(overlay) if (o["kind"], o["metadata"]["name"]) == ("Deployment", "hosts")]
    assert (driver["spec"]["replicas"], driver["spec"]["strategy"]) == (1, {"type": "Recreate"})


@EVERY
def test_who_is_busy_for_a_minute_is_not_killed(overlay: str) -> None:
    for name, spec in pods(rendered(overlay)):
        for probe in (c["livenessProbe"] for c in spec["containers"] if "livenessProbe" in c):
            assert probe["periodSeconds"] * probe.get("failureThreshold", 3) >= 60, name
            assert probe["timeoutSeconds"] >= 5, name


@EVERY
def test_a_pod_that_does_not_become_ready_keeps_no_node_from_being_drained(overlay: str) -> None:
    budgets = [o["spec"] for o in rendered(overlay) if o["kind"] == "PodDisruptionBudget"]
    assert {budget["unhealthyPodEvictionPolicy"] for budget in budgets} == {"AlwaysAllow"}


@pytest.mark.skipif(not MANIFESTS.is_dir(), reason="the manifests are not here")
def test_what_takes_more_memory_than_it_requested_is_on_a_small_machine() -> None:
    """Elsewhere a node that runs out would kill boxes for what others took (docs/kubernetes.md)."""
    files = [*MANIFESTS.glob("base/*.yaml"), *MANIFESTS.glob("components/*/*.yaml")]
    made = [o for file in files for o in yaml.safe_load_all(file.read_text()) if o and "metadata" in o]
    seen = [(name, c["resources"]) for name, spec in pods(made) if not name.startswith("DaemonSet/") for c in spec["containers"]]
    assert {"Deployment/api", "StatefulSet/database", "StatefulSet/ray-head"} <= {name for name, _ in seen}
    assert [name for name, sizes in seen if sizes["requests"]["memory"] != sizes["limits"]["memory"]] == []


@EVERY
def test_the_quota_has_room_for_as_many_boxes_as_it_has_pods(overlay: str) -> None:
    objects = rendered(overlay)
    (options,) = [tomllib.loads(o["data"]["kubernetes.toml"]) for o in objects if "kubernetes.toml" in o.get("data", {})]
    (hard,) = [o["spec"]["hard"] for o in objects if o["kind"] == "ResourceQuota"]
    usual = SandboxSpec.within(Limits(), make_environment())
    pod = manifest(usual, "box", token_digest="", maker=Maker("f", "m"), options=KubernetesOptions.model_validate(options), now=0.0)
    sizes = pod["spec"]["containers"][0]["resources"]
    for what in ("requests.cpu", "requests.memory", "limits.memory", "requests.ephemeral-storage"):
        kind, _, resource = what.partition(".")
        assert amount(hard[what]) >= int(hard["pods"]) * amount(sizes[kind][resource]), what


def amount(quantity: str) -> float:
    """Kubernetes' quantities, as far as these manifests have them."""
    units = {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
    unit = next((unit for unit in units if quantity.endswith(unit)), "")
    return float(quantity.removesuffix(unit)) * units.get(unit, 1.0)


def test_prometheus_reads_metrics_and_nothing_else() -> None:
    (monitor,) = [o for o in rendered("production") if o["kind"] == "ServiceMonitor"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "farm-metrics", "key": "token"}


PULLED = """
- target: {kind: DaemonSet, name: prepull}
  patch: |-
    - {op: add, path: /spec/template/spec/initContainers, value: [{name: first, image: "r/i@sha256:1", command: ["true"]}]}
"""


def test_images_to_have_on_nodes_are_listed_by_a_patch(tmp_path: Path) -> None:
    objects = with_more(tmp_path, "production", "prepull", patches=PULLED)
    (prepull,) = [o for o in objects if o["kind"] == "DaemonSet"]
    assert [each["image"] for each in prepull["spec"]["template"]["spec"]["initContainers"]] == ["r/i@sha256:1"]
