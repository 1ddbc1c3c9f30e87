"""The manifests before a real API server, and what their roles and policies do there. In namespaces of the tests' own."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.rendered import OVERLAYS, Object, elsewhere, kubectl, reached_cluster, rendered

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
MAY = ("create", "get", "list", "watch", "patch", "delete")


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """The prefix of namespaces that are there, with the accounts, roles and policies of `local`, until the tests are done."""
    reached_cluster()
    prefix = f"t{secrets.token_hex(3)}"
    kinds = {"Namespace", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ResourceQuota", "LimitRange"}
    objects = [o for o in elsewhere(rendered("local"), prefix) if o["kind"] in kinds]
    namespaces = [o for o in objects if o["kind"] == "Namespace"]
    ours = {o["metadata"]["name"] for o in namespaces}  # what lies in others would stay
    objects = [o for o in objects if o["metadata"].get("namespace", "") in ours]
    try:
        apply([*namespaces, *objects])
        yield prefix
    finally:
        kubectl("delete", "namespace", "--wait=false", *(o["metadata"]["name"] for o in namespaces))


def apply(objects: list[Object], *more: str) -> None:
    done = kubectl("apply", *more, "-f", "-", said=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_api_server_takes_every_object(overlay: str, place: str) -> None:
    known = kubectl("api-resources", "--no-headers", "-o", "name").stdout
    monitoring = {"ServiceMonitor": "servicemonitors.monitoring.coreos.com", "PrometheusRule": "prometheusrules.monitoring.coreos.com"}
    foreign = {"RayCluster": "rayclusters.ray.io"} | monitoring
    objects: list[Any] = [o for o in elsewhere(rendered(overlay), place) if foreign.get(o["kind"], "") in known]
    apply(objects, "--dry-run=server")


def test_the_farms_account_makes_boxes_and_nothing_else(place: str) -> None:
    def can(verb: str, what: str, namespace: str, sub: str = "") -> bool:
        account = f"--as=system:serviceaccount:{place}-envfarm:farm"
        return kubectl("auth", "can-i", verb, what, account, f"--subresource={sub}", "-n", f"{place}-{namespace}").stdout.strip() == "yes"

    assert all(can(verb, "pods", "envfarm-boxes") for verb in MAY)
    for verb in ("create", "get", "list", "watch", "delete", "patch", "update"):
        for what in ("secrets", "configmaps", "services", "deployments.apps", "roles.rbac.authorization.k8s.io", "nodes", "namespaces"):
            assert not can(verb, what, "envfarm-boxes"), (verb, what)
        assert not can(verb, "pods", "envfarm"), verb
    for sub in ("exec", "attach", "portforward", "ephemeralcontainers", "eviction", "binding"):
        assert not can("create", "pods", "envfarm-boxes", sub), sub
    assert not can("create", "serviceaccounts", "envfarm-boxes", "token")
    assert not can("escalate", "roles.rbac.authorization.k8s.io", "envfarm-boxes")
