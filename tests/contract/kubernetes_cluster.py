"""The cluster that tests of pods use: a namespace with deny-all policies, and images in its registry."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REGISTRY = "localhost:5000"
IMAGE = "python:3.11-slim"
POLICIES: list[dict[str, Any]] = [
    {"metadata": {"name": "boxes-reach-nothing"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}},
    {
        "metadata": {"name": "farm-reaches-boxd"},
        "spec": {
            "podSelector": {"matchLabels": {"envfarm.dev/part": "box"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 7070, "protocol": "TCP"}]}],
        },
    },
]


def run(*argv: str, stdin: str = "") -> str:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(argv)}: {done.stderr}")
    return done.stdout


def skip_without_cluster() -> None:
    if not os.environ.get("KUBECONFIG") or shutil.which("kubectl") is None:  # noqa: TID251 - a test's own needs
        pytest.skip("needs a Kubernetes cluster: set KUBECONFIG, and have kubectl, docker and a registry at localhost:5000")


@contextmanager
def namespace(*, policies: bool = True) -> Iterator[str]:
    name = f"envfarm-boxes-test-{uuid.uuid4().hex[:8]}"
    run("kubectl", "create", "namespace", name)
    try:
        for policy in POLICIES if policies else ():
            whole = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **policy}
            run("kubectl", "apply", "-n", name, "-f", "-", stdin=json.dumps(whole))
        yield name
    finally:
        run("kubectl", "delete", "namespace", name, "--wait=false")


def push(tag: str, name: str) -> str:
    """An image that Docker has, as the cluster's registry has it: by digest."""
    remote = f"{REGISTRY}/{name}"
    run("docker", "tag", tag, remote)
    run("docker", "push", "-q", remote)
    found: list[str] = json.loads(run("docker", "image", "inspect", remote, "--format", "{{json .RepoDigests}}"))
    repository = remote.removesuffix(":" + remote.rpartition("/")[2].rpartition(":")[2])
    return next(each for each in found if each.startswith(f"{repository}@"))


def push_boxd(boxd: Path, scratch: Path) -> str:
    shutil.copyfile(boxd, scratch / "boxd")
    (scratch / "boxd").chmod(0o755)
    (scratch / "Dockerfile").write_text("FROM scratch\nCOPY boxd /boxd\n")
    run("docker", "build", "-q", "-t", "envfarm-test/boxd", str(scratch))
    return push("envfarm-test/boxd", "envfarm-test/boxd")
