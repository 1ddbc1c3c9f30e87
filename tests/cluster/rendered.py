"""The manifests, as kubectl renders them: for the tests beside it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = Path(__file__).parents[2] / "manifests"
OVERLAYS = sorted(path.name for path in (MANIFESTS / "overlays").iterdir()) if MANIFESTS.is_dir() else []
Object = dict[str, Any]


def kubectl(*argv: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *argv], input=said, capture_output=True, text=True, check=False, timeout=90)


def rendered(overlay: str) -> list[Object]:
    return rendered_from(MANIFESTS / "overlays" / overlay)


def with_more(place: Path, overlay: str, *components: str, patches: str = "[]") -> list[Object]:
    """An operator's own overlay, in an empty directory, over one of these."""
    manifests = os.path.relpath(MANIFESTS.resolve(), place.resolve())
    named = ", ".join(f"{manifests}/components/{each}" for each in components)
    text = f"kind: Kustomization\nresources: [{manifests}/overlays/{overlay}]\ncomponents: [{named}]\npatches: {patches}\n"
    (place / "kustomization.yaml").write_text(text)
    return rendered_from(place)


def rendered_from(directory: Path) -> list[Object]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools")
    done = kubectl("kustomize", str(directory))
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def reached_cluster() -> None:
    if shutil.which("kubectl") is None or kubectl("version").returncode != 0:
        pytest.skip("no cluster answers: set KUBECONFIG to one, for example kind's")


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Every pod's spec, by the name of what makes it."""
    for found in objects:
        name, spec = f"{found['kind']}/{found['metadata']['name']}", found.get("spec", {})
        if found["kind"] == "RayCluster":
            yield f"{name} head", spec["headGroupSpec"]["template"]["spec"]
            for group in spec["workerGroupSpecs"]:
                yield f"{name} {group['groupName']}", group["template"]["spec"]
        elif "template" in spec:
            yield name, spec["template"]["spec"]


def elsewhere(objects: list[Object], suffix: str) -> list[Object]:
    """The same objects in namespaces, and under cluster-wide names, of a test's own."""
    text = json.dumps(objects)
    for name in ("envfarm-boxes", "envfarm-local", "envfarm-service", "envfarm-gvisor"):
        text = text.replace(f'"{name}', f'"{suffix}-{name}')
    moved: list[Object] = json.loads(text.replace('"envfarm"', f'"{suffix}-envfarm"'))
    return moved
