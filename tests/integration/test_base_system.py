"""Boxes of recipes see the base system and what the recipe names: not what else is installed on this machine."""

import asyncio
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import uv

from envfarm import settings
from envfarm.core.recipe import InstallStep, Toolchain
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.images.dpkg import Dpkg
from envfarm.images.local_layers import LayerDirectories, LocalLayerBuilder
from envfarm.images.local_system import machine_dpkg
from envfarm.images.toolchains import Interpreter, Toolchains
from envfarm.sandboxes.local import LocalProvider
from envfarm.stores.blobs import FileBlobStore
from envfarm.testing.factories import make_recipe

PROGRAMS = ("sh", "bash", "ls", "find", "grep", "sed", "tar", "gzip", "awk", "perl", "git", "diff", "xargs", "env", "mount", "ldconfig")
WORK = """
set -e
echo "b 2" > /tmp/x; echo "a 1" >> /tmp/x
test "$(sort /tmp/x | awk '{print $2}' | tr '\\n' ' ')" = "1 2 "
test "$(perl -e 'print 6*7')" = 42
cd /tmp && git init -q made && tar cf t.tar x && bash -c 'test "$(tar tf t.tar)" = x' && find . -name x | grep -q x
test -z "$(find -L /usr/bin /usr/sbin -type l)"
"""
MODULES = ("ssl", "sqlite3", "ctypes", "lzma", "bz2", "readline", "zlib", "uuid", "_uuid", "curses", "dbm.gnu", "hashlib")
ABLE = f"""
import sys
for name in {MODULES!r}:
    try:
        __import__(name)
        print(name)
    except ImportError:
        pass
"""


@pytest.fixture(scope="module")
def dpkg() -> Dpkg:
    found = machine_dpkg()
    if found is None:
        pytest.skip("a base system is made where dpkg is: on Debian and its kin")
    return found


class Place:
    """A builder and a provider over one home, whose base is made once for the module."""

    def __init__(self, home: Path, boxd: Path) -> None:
        blobs = FileBlobStore(home / "blobs")
        self.toolchains = Toolchains(home / "toolchains")
        self.provider = LocalProvider(home, boxd, blobs)
        places, variables = LayerDirectories(home / "layers", home / "cache"), settings.read().variables
        program = Path(uv.find_uv_bin())
        self.builder = LocalLayerBuilder(self.provider, places, blobs=blobs, toolchains=self.toolchains, uv=program, variables=variables)

    async def box_says(self, found: Interpreter, command: str, *, step: str = "true", **recipe: Any) -> str:
        """What a command prints in a box of a recipe with this interpreter; it must succeed."""
        wanted = make_recipe(
            toolchain=Toolchain(name="python", version=found.version), files={}, dependencies=(InstallStep(run=step),), project=(), **recipe
        )
        environment = (await self.builder.build(wanted, checkout=None)).environment
        box = await self.provider.create(SandboxSpec(environment=environment))
        try:
            result = await box.exec(ExecRequest(argv=("sh", "-c", command)))
            assert result.ok, result.text
            return result.stdout.decode()
        finally:
            await box.close()
            await self.provider.aclose()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def place(home: Path, boxd: Path, dpkg: Dpkg) -> Place:
    return Place(home, boxd)


def small_stranger(dpkg: Dpkg, home: Path) -> tuple[str, str]:
    """The package of this machine with the fewest files that has a program, needs little, and is in no base; and its program."""
    metas = [json.loads(path.read_text()) for path in home.glob("layers/*/meta.json")]
    kept = {name for meta in metas if meta["kind"] == "base" for name in meta["packages"]}
    found = []
    for name in dpkg.packages.keys() - kept:
        files = [where for where, _ in dpkg.files(name)]
        programs = [where for where in files if where.startswith("usr/bin/") and Path("/", where).is_file()]
        if programs and len(dpkg.packages[name].needs) <= 2:
            found.append((len(files), name, programs[0]))
    return min(found)[1:] if found else ("", "")


async def test_common_programs_work(place: Place) -> None:
    newest = place.toolchains.available()[-1]
    said = await place.box_says(newest, f"for p in {' '.join(PROGRAMS)}; do command -v $p; done; {WORK}")
    assert len(said.split()) == len(PROGRAMS)


@pytest.mark.network
async def test_a_program_of_the_machine_is_seen_where_the_recipe_names_its_package(place: Place, dpkg: Dpkg, home: Path) -> None:
    newest = place.toolchains.available()[-1]
    await place.box_says(newest, "true")
    package, program = await asyncio.to_thread(small_stranger, dpkg, home)
    if not package:
        pytest.skip("this machine has no package beyond a base system: apt-get install less")
    assert await place.box_says(newest, f"test -e /{program} || echo gone") == "gone\n", package
    assert await place.box_says(newest, f"test -e /{program} && echo there", system_packages=(package,)) == "there\n", package


async def test_steps_that_make_an_environment_see_no_more_than_its_boxes(place: Place) -> None:
    said = await place.box_says(
        place.toolchains.available()[-1],
        "cat /opt/seen; ls /usr/bin /usr/include 2>&1",
        step="ls /usr/bin /usr/include > /opt/seen 2>&1 || true",
    )
    half = len(said) // 2
    assert said[:half] == said[half:]


async def test_every_interpreter_can_do_in_a_box_what_it_can_on_the_machine(place: Place) -> None:
    for found in place.toolchains.available():
        program = place.toolchains.place_of(found) / "bin" / f"python{found.minor}"
        said = await place.box_says(found, f"$PYTHON -I -c {shlex.quote(ABLE)}")
        asked = await asyncio.create_subprocess_exec(program, "-I", "-c", ABLE, stdout=asyncio.subprocess.PIPE)
        here, _ = await asked.communicate()
        assert said == here.decode(), found
