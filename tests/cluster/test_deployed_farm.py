"""`make deploy OVERLAY=local` from nothing, a task brought into the farm and played in its pods, and nothing left of it afterwards."""

import asyncio
import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from envfarm.settings import read
from envfarm.testing import adder_task
from envfarm.testing.factories import make_recipe
from envfarm.wiring import Farm
from tests.cluster.rendered import kubectl, reached_cluster
from tests.integration.program.process import Told, within

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
NAME = "acme/adder-aaaa1111"
REGISTRY = "localhost:5000"
OURS = ("namespaces", "persistentvolumes", "clusterroles", "clusterrolebindings", "priorityclasses")
UP_S = 60.0


def ours() -> list[str]:
    """Everything of a farm's that lies outside of its namespaces; in one that is gone nothing is left."""
    found = kubectl("get", ",".join(OURS), "-o", "name").stdout.split()
    found += kubectl("get", "roles,rolebindings", "-n", "kube-node-lease", "-o", "name").stdout.split()
    return [name for name in found if name.partition("/")[2].startswith("envfarm") and "-test-" not in name]


@pytest.fixture(scope="module")
def farm() -> Iterator[str]:
    """The address of a farm that was deployed just now."""
    reached_cluster()
    if not (ROOT / "manifests").is_dir():
        pytest.skip("needs the checkout: manifests are not in the wheel")
    if found := ours():
        pytest.skip(f"a farm is deployed here, which this would remove: {found[:3]}. Remove it: kubectl delete -k build/OVERLAY")
    try:
        done = subprocess.run(["make", "deploy", "OVERLAY=local"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "envfarm tasks push --all" in done.stdout
        forward = ["kubectl", "-n", "envfarm", "port-forward", "service/api", ":8700"]
        with subprocess.Popen(forward, stdout=subprocess.PIPE, text=True) as forwarding:
            assert forwarding.stdout is not None
            yield "http://127.0.0.1:" + forwarding.stdout.readline().split("->")[0].rsplit(":", 1)[1].strip()
            forwarding.terminate()
    finally:
        gone = kubectl("delete", "-k", str(ROOT / "build/local"), "--ignore-not-found", "--wait=false")
        assert gone.returncode == 0, gone.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    asyncio.run(_add_task(home))
    return home


async def _add_task(home: Path) -> None:
    async with Farm(read().model_copy(update={"home": home})) as farm:
        blob = await farm.blobs.put(adder_task.checkout_archive())
        await farm.catalogue.add(adder_task.make(name=NAME, recipe=make_recipe(), checkout=blob.digest))


def token() -> str:
    secret = json.loads(kubectl("-n", "envfarm", "get", "secret", "farm-operator", "-o", "json").stdout)
    return base64.b64decode(secret["data"]["token"]).decode()


def at(home: Path, *words: str) -> Told:
    return within(600, home, *words, ENVFARM_TOKEN=token(), ENVFARM_REGISTRY=f"{REGISTRY}/envfarm-test")


def test_a_task_is_brought_and_played_in_pods(farm: str, home: Path) -> None:
    assert httpx.get(f"{farm}/readyz", timeout=30).json()["ok"] is True
    pushed = at(home, "tasks", "push", NAME, "--server", farm)
    assert pushed.status == 0, pushed.err
    assert pushed.out.splitlines()[1].split("\t")[3].startswith(f"{REGISTRY}/envfarm-test/environment@sha256:")
    # A name of its own, and the task by its whole name: the node keeps the database of a farm that was here before.
    played = at(home, "run", NAME, "--server", farm, "--policy", "gold", "--policy", "nop", "--run", secrets.token_hex(4))
    assert played.status == 0, played.err + kubectl("-n", "envfarm", "logs", "deploy/hosts", "--tail=30").stdout
    outcomes = [tuple(line.split("\t")[2:4]) for line in played.out.splitlines()[1:]]
    assert outcomes == [("gold", "1"), ("nop", "0")]
    left = kubectl("-n", "envfarm-boxes", "get", "pods", "-o", "json")
    alive = [pod["metadata"] for pod in json.loads(left.stdout)["items"] if not pod["metadata"].get("deletionTimestamp")]
    assert [pod["name"] for pod in alive if pod["labels"]["envfarm.dev/owner"]] == []  # what was made ahead is nobody's


def test_deleting_it_leaves_nothing(farm: str) -> None:
    assert farm
    gone = kubectl("delete", "-k", str(ROOT / "build/local"), "--wait=false")
    assert gone.returncode == 0, gone.stderr
    end = time.monotonic() + UP_S * 4
    while (left := ours()) and time.monotonic() < end:
        time.sleep(1)
    assert left == []
