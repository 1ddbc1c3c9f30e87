"""Real boxes with a real test runner, without a network: the runner that runs these tests is copied into a layer."""

import asyncio
import fcntl
import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.change import Change, ChangedFile
from envfarm.core.image import Environment, ImageRef
from envfarm.core.task import Limits, Task
from envfarm.episodes.grader import SandboxGrader
from envfarm.images.toolchains import Toolchains
from envfarm.layers import TREE, LayerDirectory
from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.local import LocalProvider
from envfarm.stores import task_dir
from envfarm.testing import small_task
from envfarm.testing.blobs import MemoryBlobs
from task_builders.validation import canary_gate
from task_builders.validation.attacks.play import AttackSetup
from task_builders.validation.bench import Bench
from task_builders.validation.language_tools import of_language

RUNNER = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "exceptiongroup", "tomli")
LAYER = digest.of_bytes(b"a runner for the hacking tests")


def runner_layer(layers: Path, python: str, minor: str) -> None:
    """A layer with /opt/venv: the interpreter `python` and this process's own test runner."""
    directory = LayerDirectory(layers)
    with directory.fresh(LAYER) as fresh:
        _fill(fresh / TREE / "opt/venv", python, minor)
        directory.publish(LAYER, fresh, {"kind": "a test runner"})


def _fill(venv: Path, python: str, minor: str) -> None:
    site = venv / f"lib/python{minor}/site-packages"
    site.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "pyvenv.cfg").write_text(f"home = {python.rpartition('/')[0]}\ninclude-system-site-packages = false\nversion = {minor}\n")
    for name in ("python", "python3"):
        (venv / "bin" / name).symlink_to(python)
    for name in RUNNER:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if ".." not in file.parts and "__pycache__" not in file.parts:
                target = site / Path(*file.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file.locate(), target)
    # A box cannot write into a layer: unless what the runner imports is compiled here, each start in a box compiles it again.
    warm = "import sys; sys.path.insert(0, sys.argv[1]); import pytest; pytest.main(['--version', '--version'])"
    subprocess.run([sys.executable, "-I", "-S", "-c", warm, str(site)], cwd=venv, check=True, capture_output=True)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("farm")
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    toolchains = Toolchains(home / "toolchains")
    found = toolchains.find(minor)
    assert found is not None, f"no Python {minor} for boxes"
    toolchains.place_found(found)
    runner_layer(home / "layers", f"{found.box_prefix}/bin/python{minor}", minor)
    return home


@pytest.fixture
def environment(home: Path) -> Environment:
    names = tuple(p.name for p in (home / "toolchains").glob("python-*"))
    image = ImageRef(kind="layers", digest=LAYER, layers=(LAYER,), toolchains=names)
    return Environment(image=image, work_dir=small_task.WORK_DIR, env={"PATH": "/opt/venv/bin:/usr/local/bin:/usr/bin:/bin"})


GOLD = Change((ChangedFile("testbed/shelf/labels.py", 0o644, content=small_task.FIXED.encode()),))


async def guarded(bench: Bench, seed: str = "a seed", more: Mapping[str, str] | None = None) -> Task:
    """The small task with canaries. `more` are modules of the tree, each with one test, `test_it`."""
    more = more or {}
    task = small_task.make()
    passing = (*task.plan.pass_to_pass, *(f"{path}::test_it" for path in more))
    limits = Limits(memory_mib=512, disk_mib=128, pids=128, verifier_s=60.0)
    task = task.model_copy(update={"name": f"envfarm/{seed}", "limits": limits, "plan": replace(task.plan, pass_to_pass=passing)})
    inputs = canary_gate.CanaryInputs(
        bench=bench,
        solution=GOLD,
        files={"tests/test_labels.py": small_task.NEW_TESTS.encode()},
        base={**small_task.TREE, **more},
        narrowed=lambda same: same,
    )
    tools = of_language("python")
    assert tools is not None
    made, _ = await canary_gate.disguise(task, tools, inputs)
    return made


@pytest.fixture
def gold() -> Change:
    return GOLD


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """Tasks with canaries, by seed, of all workers of a run. They are made in boxes, which takes a while, and are plain data afterwards."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(pytestconfig, "workerinput") else own


@pytest.fixture
async def place(home: Path, environment: Environment, made: Path, request: pytest.FixtureRequest) -> AsyncIterator[AttackSetup]:
    """The setup for attacks: local boxes with full isolation, and canaries from a seed that a test may choose."""
    blobs = MemoryBlobs()
    checkout = await blobs.put(small_task.checkout_archive())
    provider = LocalProvider(home, boxd_binary.find(), blobs)
    full = environment.model_copy(update={"checkout": checkout})
    seed = getattr(request, "param", "a seed")
    folder = made / f"guarded, {seed}"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be at it
        if not folder.exists():
            task_dir.write(await guarded(Bench(provider, full, blobs, asyncio.Semaphore()), seed), folder)
    yield AttackSetup(task_dir.read(folder), lambda defences: SandboxGrader(provider, defences=defences), provider, full, GOLD)
    await provider.aclose()
