"""The tasks of a storm: small, slow enough that a fault finds each phase, with an image from the nodes' registry."""

import hashlib
import json
from datetime import UTC, datetime

import urllib3

from envfarm.core import digest
from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.task import Limits, Task
from envfarm.core.validation import ValidationReport
from envfarm.testing import adder_task
from envfarm.testing.factories import make_recipe, passed_gates
from envfarm.wiring import Farm

SLOW_CHECK = "sleep 1; sh add.sh 0 0 >/dev/null"
SOLUTION = b"set -e\nsleep 2\nsed -i 's/ - / + /' add.sh\nsleep 1\n"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


async def put(farm: Farm, name: str, image: str) -> None:
    """Keep a valid task in a farm's catalogue, whose boxes are made of this image."""
    archive = adder_task.checkout_archive()
    blob = await farm.blobs.put(archive)
    task = _make(name, blob.digest)
    reference = ImageRef(kind="oci", digest=digest.of_bytes(image.encode()), reference=image)
    checkout = BlobRef(digest=blob.digest, size_bytes=len(archive))
    environment = Environment(image=reference, checkout=checkout, work_dir="/testbed")
    report = ValidationReport(
        task=task.digest, environment=environment, provider="kubernetes", created_at=datetime.now(UTC), gates=passed_gates()
    )
    await farm.catalogue.add_validated(task, report)
    await farm.catalogue.add_environment(task.digest, "kubernetes", environment)


def _make(name: str, checkout: str) -> Task:
    made = adder_task.make("slowly", SLOW_CHECK, name=name, recipe=make_recipe(), checkout=checkout)
    limits = Limits(cpus=0.5, memory_mib=128, disk_mib=32, pids=128, agent_s=120.0, verifier_s=120.0)
    return made.model_copy(update={"solution": {"solve.sh": SOLUTION}, "limits": limits})


def vary(registry: str, reference: str, word: str) -> str:
    """Another image of the same layers, which no node has: its manifest's name and digest (`repository@sha256:…`)."""
    repository, _, wanted = reference.partition("/")[2].partition("@")
    at = f"http://{registry}/v2/{repository}/manifests/"
    manifest = json.loads(urllib3.request("GET", at + wanted, headers={"Accept": MANIFEST}).data)
    body = json.dumps({**manifest, "annotations": {"word": word}}).encode()
    put = urllib3.request("PUT", f"{at}chaos-{word}", body=body, headers={"Content-Type": manifest["mediaType"]})
    if put.status != 201:
        raise RuntimeError(f"the registry does not take a manifest: {put.status} {put.data[:200]!r}")
    return f"{repository}@sha256:{hashlib.sha256(body).hexdigest()}"
