"""The cluster as it says it is, asked with nothing of the farm's own code."""

import base64
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
import yaml

from tests.contract.kubernetes_cluster import POLICIES

Json = dict[str, Any]
DOMAIN = "envfarm.dev/"
ATTEMPTS = 5
CALL_S = 30.0
GONE_S = 180.0


class Kube:
    """One API server, by the client certificate of a kubeconfig's current context."""

    def __init__(self, kubeconfig: Path, scratch: Path) -> None:
        said = yaml.safe_load(kubeconfig.read_text())
        context = _named(said, "context", said["current-context"])
        cluster, user = _named(said, "cluster", context["cluster"]), _named(said, "user", context["user"])
        self.server: str = cluster["server"]
        files: dict[str, Any] = {
            "ca_certs": _file(cluster, "certificate-authority", scratch),
            "cert_file": _file(user, "client-certificate", scratch),
            "key_file": _file(user, "client-key", scratch),
        }
        self.pool = urllib3.PoolManager(maxsize=256, **files)
        self.namespace = ""

    def call(self, method: str, path: str, body: object = None, *, missing_ok: bool = False) -> Json:
        """Ask, again where the server is not to be had. Raises `RuntimeError` for a refusal."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/merge-patch+json" if method == "PATCH" else "application/json"}
        again = urllib3.Retry(
            ATTEMPTS, backoff_factor=0.5, status_forcelist=(429, 500, 503, 504), allowed_methods=None, raise_on_status=False
        )
        reply = self.pool.request(method, self.server + path, body=data, headers=headers, timeout=CALL_S, retries=again)
        if reply.status >= 300 and not (missing_ok and reply.status == 404):
            raise RuntimeError(f"{method} {path}: {reply.status} {reply.data[:300].decode(errors='replace')}")
        answer: Json = reply.json()
        return answer

    def pods(self) -> list[Json]:
        """Every pod of the namespace, those that are being deleted too."""
        return list(self.call("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"])

    def leases(self) -> list[Json]:
        """Of makers of boxes."""
        return list(self.call("GET", f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases")["items"])

    def delete_pod(self, name: str, *, grace_s: int | None = None) -> None:
        """As `kubectl delete pod` does."""
        body = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        self.call("DELETE", f"/api/v1/namespaces/{self.namespace}/pods/{name}", body, missing_ok=True)

    def evict_pod(self, name: str) -> None:
        """As `kubectl drain` does."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.namespace}}
        self.call("POST", f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction", body, missing_ok=True)

    @contextmanager
    def own_namespace(self) -> Iterator[None]:
        """A namespace of its own, whose boxes reach nothing."""
        self.namespace = f"envfarm-chaos-{secrets.token_hex(4)}"
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        try:
            for policy in POLICIES:
                self.call("POST", f"/apis/networking.k8s.io/v1/namespaces/{self.namespace}/networkpolicies", policy)
            yield
        finally:
            self.call("DELETE", f"/api/v1/namespaces/{self.namespace}", missing_ok=True)
            until = time.monotonic() + GONE_S  # whoever comes next must not meet it half gone
            while (
                self.call("GET", f"/api/v1/namespaces/{self.namespace}", missing_ok=True)["kind"] == "Namespace"
                and time.monotonic() < until
            ):
                time.sleep(1.0)


def said_of(pod: Json, key: str) -> str:
    """One of the farm's annotations; labels hold digests of what is no label."""
    return str((pod["metadata"].get("annotations") or {}).get(DOMAIN + key, ""))


def runs(pod: Json) -> bool:
    """Whether its box runs, and nobody has asked for its end."""
    states = [each.get("state") or {} for each in (pod.get("status") or {}).get("containerStatuses") or ()]
    return "deletionTimestamp" not in pod["metadata"] and any("running" in state for state in states)


def begins(pod: Json) -> bool:
    """Whether it was asked for, and does not run yet."""
    return "deletionTimestamp" not in pod["metadata"] and not runs(pod) and (pod.get("status") or {}).get("phase") == "Pending"


def _named(said: Json, kind: str, name: str) -> Json:
    found: Json = next(each[kind] for each in said[f"{kind}s"] if each["name"] == name)
    return found


def _file(said: Json, key: str, scratch: Path) -> str:
    if said.get(key):
        return str(said[key])
    path = scratch / key
    path.touch(mode=0o600)
    path.write_bytes(base64.b64decode(said[f"{key}-data"]))
    return str(path)
