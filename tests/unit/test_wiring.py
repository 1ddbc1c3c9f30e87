"""What a farm says of boxes that this installation has no client for, and what it does when an environment's parts are gone."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from envfarm import wiring
from envfarm.core import digest
from envfarm.core.errors import ImageError, StoreError, UsageError
from envfarm.core.ids import BoxId
from envfarm.core.image import BlobRef, BuildFacts, Built, Environment, ImageRef
from envfarm.core.protocols import Holds, ImageBuilder
from envfarm.core.recipe import Recipe
from envfarm.images.layer_store import LayerStore
from envfarm.sandboxes.kubernetes import KubernetesProvider
from envfarm.settings import read
from envfarm.testing.factories import make_task
from envfarm.wiring import Farm
from tests.unit.sandboxes.full_cluster import FullCluster, served


def test_a_missing_client_is_named_with_the_way_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    monkeypatch.delitem(sys.modules, "envfarm.sandboxes.docker", raising=False)
    with pytest.raises(UsageError, match="is not installed") as told:
        Farm(read().model_copy(update={"home": tmp_path})).provider("docker")
    assert told.value.hint == "pip install 'envfarm[docker]'"


FACTS = BuildFacts(layer_reused=False, layer_s=0.0, layer_bytes=0)


class Layers:
    """Builds every recipe as one empty layer, where it is not there."""

    def __init__(self, root: Path) -> None:
        self.layer = digest.of_bytes(b"layer")
        self.built = 0
        self.fault: ImageError | None = None
        self._store = LayerStore(root)

    async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
        del recipe
        self.built += 1
        if self.fault is not None:
            raise self.fault
        async with self._store.claim(self.layer):
            if self._store.find(self.layer) is None:
                self._store.publish(self.layer, (), {})
        return Built(Environment(image=ImageRef(kind="layers", digest=self.layer, layers=(self.layer,)), checkout=checkout), FACTS)


class FarmOfLayers(Farm):
    """Its environments are made by `Layers`."""

    layers: Layers

    def builder(self, name: str) -> ImageBuilder:
        del name
        return self.layers


@pytest.mark.parametrize("damaged", [False, True])
async def test_an_environment_whose_layer_is_lost_is_made_again_in_a_living_process(tmp_path: Path, *, damaged: bool) -> None:
    async with FarmOfLayers(read().model_copy(update={"home": tmp_path})) as farm:
        farm.layers = layers = Layers(farm.settings.layers)
        task = make_task().model_copy(update={"checkout": None})
        made = await farm.environment(task, "local")
        assert await farm.environment(task, "local") == made
        assert await farm.attached.layer("mini-swe-agent") == await farm.attached.layer("mini-swe-agent") == layers.layer
        assert layers.built == 2
        place = farm.settings.layers / layers.layer.removeprefix("sha256:")
        if damaged:
            (place / "meta.json").write_bytes(b"{")
        else:
            shutil.rmtree(place)
        again = await asyncio.gather(*(farm.environment(task, "local") for _ in range(3)))
        assert again == [made] * 3
        shutil.rmtree(place)
        assert await farm.attached.layer("mini-swe-agent") == layers.layer
        assert layers.built == 4
        provider = farm.provider("local")
        assert isinstance(provider, Holds)
        assert await provider.holds(made)


async def test_what_is_brought_in_place_of_an_environment_is_played_from_then_on(tmp_path: Path) -> None:
    async with Farm(read().model_copy(update={"home": tmp_path})) as farm:
        task = make_task().model_copy(update={"checkout": None})
        with pytest.raises(ImageError, match="has no environment here"):
            await farm.environment(task, "kubernetes")
        await farm.catalogue.add(task)
        for content in (b"as it was", b"corrected"):
            brought = Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(content), reference="r/i"))
            await farm.catalogue.add_environment(task.digest, "kubernetes", brought)
            assert await farm.environment(task, "kubernetes") == brought
            assert farm._boxes[task.digest, "kubernetes"].environment == brought


async def test_a_living_process_remembers_only_the_environments_of_the_tasks_that_it_played_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "KEPT_TASKS", 2)
    async with FarmOfLayers(read().model_copy(update={"home": tmp_path})) as farm:
        farm.layers = Layers(farm.settings.layers)
        first, second, third = (make_task().model_copy(update={"checkout": None, "name": name}) for name in ("a", "b", "c"))
        for task in (first, second, first, third):
            await farm.environment(task, "local")
        kept = [(first.digest, "local"), (third.digest, "local")]
        assert (list(farm._environments), list(farm._boxes)) == (kept, kept)


async def test_who_only_builds_for_pods_needs_no_cluster(tmp_path: Path) -> None:
    changes = {"home": tmp_path, "kubernetes": None, "registry": "registry.example.com/envfarm"}
    async with FarmOfLayers(read().model_copy(update=changes)) as farm:
        farm.layers = Layers(farm.settings.layers)
        task = make_task().model_copy(update={"checkout": None})
        assert (await farm.environment(task, "kubernetes")).image.layers == (farm.layers.layer,)


async def test_what_could_not_be_made_while_nobody_waited_any_more_is_tried_again(tmp_path: Path) -> None:
    async with FarmOfLayers(read().model_copy(update={"home": tmp_path})) as farm:
        farm.layers = Layers(farm.settings.layers)
        farm.layers.fault = ImageError("the disk was full")
        task = make_task().model_copy(update={"checkout": None})
        waiter = asyncio.ensure_future(farm.environment(task, "local"))
        while not farm._environments:  # noqa: ASYNC110 - nothing tells that it has begun
            await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter, *farm._environments.values()])
        farm.layers.fault = None
        assert (await farm.environment(task, "local")).image.layers == (farm.layers.layer,)


def test_a_key_of_pods_that_is_none_is_told(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    with served(FullCluster(), kubeconfig):
        options = tmp_path / "kubernetes.toml"
        options.write_text(f"boxd_image = 'r/b'\nkubeconfig = '{kubeconfig}'\n")
        settings = read().model_copy(update={"home": tmp_path, "kubernetes": options})
        first, second = (Farm(settings).provider("kubernetes") for _ in range(2))
        assert isinstance(first, KubernetesProvider)
        assert isinstance(second, KubernetesProvider)
        assert first._token(BoxId("box-1")) == second._token(BoxId("box-1"))
        (tmp_path / "pods.key").write_bytes(b"")
        with pytest.raises(StoreError, match=r"pods.key holds no key: it has 0 bytes") as told:
            Farm(settings).provider("kubernetes")
    assert "remove it" in told.value.hint
