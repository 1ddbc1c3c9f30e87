"""Layers made in real local boxes from recipes that need no registry; one that does is marked so."""

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
import uv

from envfarm import settings
from envfarm.core.errors import BuildOutage, ImageError
from envfarm.core.ids import Digest
from envfarm.core.image import BlobRef
from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.images.checkout import checkout_archive
from envfarm.images.history_proof import history_proof
from envfarm.images.layer_store import LayerStore
from envfarm.images.local_layers import LayerDirectories, LocalLayerBuilder, layer_over
from envfarm.images.local_system import LocalSystem, machine_dpkg
from envfarm.images.toolchains import Toolchains
from envfarm.sandboxes.local import LocalProvider
from envfarm.stores.blobs import FileBlobStore
from envfarm.testing.factories import make_recipe
from envfarm.testing.git_repository import Repository

VENV = 'uv venv --python "$PYTHON" /opt/venv && cp /opt/envfarm/lock.txt /opt/venv/made-from'


class Workplace(NamedTuple):
    home: Path
    provider: LocalProvider
    builder: LocalLayerBuilder
    blobs: FileBlobStore
    minor: str


def workplace(home: Path, boxd: Path, store: Path) -> Workplace:
    """A home whose interpreters and base system are shared with other homes: placing and copying them once is enough."""
    if not (home / "toolchains").exists():
        (home / "layers").mkdir(parents=True)
        (home / "toolchains").symlink_to(store)
        for layer in (store / "layers").glob("[!.]*"):
            (home / "layers" / layer.name).symlink_to(layer)
    blobs = FileBlobStore(home / "blobs")
    provider = LocalProvider(home, boxd, blobs)
    toolchains = Toolchains(home / "toolchains")
    builder = LocalLayerBuilder(
        provider,
        LayerDirectories(home / "layers", home / "cache"),
        blobs=blobs,
        toolchains=toolchains,
        uv=Path(uv.find_uv_bin()),
        variables=settings.read().variables,
    )
    return Workplace(home, provider, builder, blobs, toolchains.available()[-1].minor)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("toolchains")
    toolchains = Toolchains(place)
    newest = toolchains.available()[-1]
    toolchains.place_found(newest)
    system = LocalSystem(LayerStore(place / "layers"), toolchains, cache=place / "cache", variables={})
    asyncio.run(system.under(make_recipe(), newest))
    return place


@pytest.fixture
async def place(tmp_path: Path, boxd: Path, store: Path) -> AsyncIterator[Workplace]:
    made = workplace(tmp_path / "home", boxd, store)
    yield made
    await made.provider.aclose()


def recipe(place: Workplace, *dependencies: str, project: tuple[str, ...] = (), files: dict[str, str] | None = None) -> Recipe:
    return make_recipe(
        toolchain=Toolchain(name="python", version=place.minor),
        env={"TZ": "UTC"},
        files=files if files is not None else {"/opt/envfarm/lock.txt": "made-up==1.0\n"},
        dependencies=tuple(InstallStep(run=run) for run in dependencies),
        project=tuple(InstallStep(run=run) for run in project),
    )


def commit(tmp_path: Path) -> bytes:
    """A checkout of a package of one module."""
    repository = Repository.make(tmp_path / "repository")
    repository.commit("one", {"made_up.py": "answer = 42\n", ".gitignore": "*.egg-link\n"})
    return checkout_archive(repository.path, "HEAD")


@pytest.fixture
async def checkout(place: Workplace, tmp_path: Path) -> BlobRef:
    return await place.blobs.put(await asyncio.to_thread(commit, tmp_path))


async def run(place: Workplace, spec: SandboxSpec, command: str) -> str:
    box = await place.provider.create(spec)
    try:
        result = await box.exec(ExecRequest(argv=("sh", "-c", command)))
        assert result.ok, result.text
        return result.stdout.decode().strip()
    finally:
        await box.close()


def kept(log: Path) -> str:
    return log.read_text()


def unfinished(home: Path) -> list[Path]:
    return [p for p in (home / "layers").iterdir() if p.name.startswith(".")]


async def layer_of(place: Workplace, wanted: Recipe) -> Digest:
    interpreter = await place.builder._interpreter(wanted)
    return layer_over(wanted, await place.builder._system.under(wanted, interpreter), interpreter)


def is_building(home: Path, layer: str) -> bool:
    return (home / "layers" / f".lock-{layer.removeprefix('sha256:')}").exists() and any((home / "boxes").glob("*-*/box.json"))


async def test_an_environment_is_made_once_and_works(place: Workplace, checkout: BlobRef) -> None:
    link = "echo /testbed > $(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/made_up.pth && touch built.egg-link"
    wanted = recipe(place, VENV, project=(link,))
    first = await place.builder.build(wanted, checkout=checkout)
    assert (first.facts.layer_reused, first.facts.checkout_reused) == (False, False)
    assert first.facts.layer_bytes > 0
    again = await place.builder.build(wanted, checkout=checkout)
    assert (again.facts.layer_reused, again.facts.checkout_reused) == (True, True)
    assert again.environment == first.environment
    assert again.facts.layer_s + again.facts.checkout_s < first.facts.layer_s + first.facts.checkout_s

    spec = SandboxSpec(environment=first.environment)
    said = await run(
        place, spec, "cd / && python -c 'import made_up; print(made_up.answer)' && cat /opt/venv/made-from && command -v uv || echo no uv"
    )
    assert said == "42\nmade-up==1.0\nno uv"
    assert await run(place, spec, 'git status --porcelain; "$PYTHON" -V; echo $TZ; touch /testbed/x /opt/venv/x') == (
        (await run(place, spec, "python -V")) + "\nUTC"
    )


async def test_the_history_of_a_box_is_clean(place: Workplace, checkout: BlobRef) -> None:
    built = await place.builder.build(recipe(place, VENV), checkout=checkout)
    box = await place.provider.create(SandboxSpec(environment=built.environment))
    assert (await history_proof(box))["findings"] == []
    result = await box.exec(ExecRequest(argv=("git", "tag", "future")))
    assert result.ok
    assert (await history_proof(box))["findings"] == ["reference: refs/tags/future"]
    await box.close()


async def test_a_failing_step_is_told_with_its_log(place: Workplace) -> None:
    with pytest.raises(ImageError, match=r"step 2 of 2 \(`echo about to fail; exit 7`\) ended with status 7:\nabout to fail") as told:
        await place.builder.build(recipe(place, "true", "echo about to fail; exit 7"), checkout=None)
    assert kept(Path(told.value.hint.rpartition(" ")[2])).startswith("$ true\n")
    assert unfinished(place.home) == []


async def test_project_steps_reach_no_network_and_dependency_steps_see_no_checkout(place: Workplace, checkout: BlobRef) -> None:
    alone = "test \"$(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ')\" = lo"
    steps = recipe(place, "test ! -e /testbed/made_up.py && touch /opt/ran", project=(alone, "test -e made_up.py && touch ran"))
    built = await place.builder.build(steps, checkout=checkout)
    assert await run(place, SandboxSpec(environment=built.environment), "ls /opt/ran ran") == "/opt/ran\nran"


async def test_a_project_that_wants_the_network_where_there_is_none_meets_no_outage(place: Workplace, checkout: BlobRef) -> None:
    with pytest.raises(ImageError, match="Could not resolve host") as told:
        await place.builder.build(recipe(place, "true", project=("git ls-remote https://example.invalid/made/up",)), checkout=checkout)
    assert not isinstance(told.value, BuildOutage)


async def test_a_project_step_may_not_take_from_the_layer(place: Workplace, checkout: BlobRef) -> None:
    with pytest.raises(ImageError, match="deleted /opt/venv/made-from"):
        await place.builder.build(recipe(place, VENV, project=("rm /opt/venv/made-from",)), checkout=checkout)


async def test_of_two_builders_one_makes_and_the_other_finds(place: Workplace, boxd: Path, store: Path) -> None:
    other = workplace(place.home, boxd, store)
    wanted = recipe(place, "sleep 0.5; date +%s%N > /opt/when")
    both = await asyncio.gather(*(p.builder.build(wanted, checkout=None) for p in (place, other)))
    await other.provider.aclose()
    assert sorted(built.facts.layer_reused for built in both) == [False, True]


BUILD = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_local_layers import workplace
from envfarm.core.recipe import Recipe
async def main():
    place = workplace(Path({home!r}), Path({boxd!r}), Path({store!r}))
    await place.builder.build(Recipe.model_validate_json({recipe!r}), checkout=None)
asyncio.run(main())
"""


async def test_a_killed_build_leaves_nothing_that_is_not_collected(place: Workplace, boxd: Path, store: Path) -> None:
    wanted = recipe(place, "echo begun > /opt/begun; sleep 60")
    code = BUILD.format(
        folder=str(Path(__file__).parent), home=str(place.home), boxd=str(boxd), store=str(store), recipe=wanted.model_dump_json()
    )
    layer = await layer_of(place, wanted)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path(__file__).parents[2])
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(is_building, place.home, layer):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await place.provider.collect_left_overs() == 1
    LayerStore(place.home / "layers").collect()
    quick = recipe(place, "echo begun > /opt/begun")
    assert (await place.builder.build(quick, checkout=None)).facts.layer_reused is False
    async with asyncio.timeout(5):
        async with place.builder._store.claim(layer):
            assert place.builder._store.find(layer) is None


async def test_another_language_is_refused_with_advice(place: Workplace) -> None:
    other = recipe(place, "true").model_copy(update={"toolchain": Toolchain(name="node", version="20")})
    with pytest.raises(ImageError, match="local layers are for Python") as told:
        await place.builder.build(other, checkout=None)
    assert "Docker" in told.value.hint


@pytest.mark.network
async def test_a_package_of_the_registry_is_installed_and_no_other_layer_has_its_cache(place: Workplace) -> None:
    install = "uv pip install --python /opt/venv/bin/python -r /opt/envfarm/lock.txt"
    wanted = recipe(place, VENV, install, files={"/opt/envfarm/lock.txt": "iniconfig==2.0.0\n"})
    built = await place.builder.build(wanted, checkout=None)
    spec = SandboxSpec(environment=built.environment)
    assert await run(place, spec, "python -c 'import iniconfig; print(iniconfig.__name__)'") == "iniconfig"
    tree = place.builder._store.tree(built.environment.image.layers[-1])
    meta = json.loads((tree.parent / "meta.json").read_bytes())
    assert (meta["kind"], meta["recipe"]) == ("dependencies", wanted.layer_digest)
    offline = recipe(place, VENV, f"UV_OFFLINE=1 {install}", files=wanted.files)
    with pytest.raises(ImageError, match="iniconfig"):
        await place.builder.build(offline, checkout=None)


@pytest.mark.network
async def test_a_system_package_is_a_layer_of_its_own(place: Workplace) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("needs Debian's apt")
    plain = recipe(place, "PATH=$PATH:/usr/games cowsay -l > /opt/cows")
    wanted = plain.model_copy(update={"system_packages": ("git", "cowsay")})
    built = await place.builder.build(wanted, checkout=None)
    assert len(built.environment.image.layers) == (3 if machine_dpkg() else 2)
    assert "default" in await run(place, SandboxSpec(environment=built.environment), "cat /opt/cows")


@pytest.mark.network
async def test_a_package_means_what_its_alternatives_say(place: Workplace) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("needs Debian's apt")
    built = await place.builder.build(recipe(place, "true").model_copy(update={"system_packages": ("gawk",)}), checkout=None)
    assert "GNU Awk" in await run(place, SandboxSpec(environment=built.environment), "awk --version")


@pytest.mark.network
async def test_a_weaker_alternative_does_not_take_the_place_of_the_bases(place: Workplace) -> None:
    dpkg = machine_dpkg()
    if dpkg is None or "mawk" not in dpkg.packages:
        pytest.skip("needs a Debian with mawk")
    built = await place.builder.build(recipe(place, "true").model_copy(update={"system_packages": ("original-awk",)}), checkout=None)
    assert (
        await run(place, SandboxSpec(environment=built.environment), "command -v original-awk; readlink -f /usr/bin/awk")
        == "/usr/bin/original-awk\n/usr/bin/mawk"
    )
