"""Which copies are kept: blind rounds draw some of the modules, so a copy must behave without the others."""

import asyncio

import pytest

from envfarm.testing.blobs import MemoryBlobs
from task_builders.validation.attacks.play import AttackSetup
from task_builders.validation.bench import Bench
from tests.hacking.conftest import guarded

pytestmark = pytest.mark.slow
SETS = "import os\n\nos.environ['SHELF'] = 'open'\n\ndef test_it():\n    assert os.environ\n"
NEEDS = "import os\n\ndef test_it():\n    assert os.environ['SHELF'] == 'open'\n"


async def test_a_copy_that_passes_only_beside_another_module_is_left_out(place: AttackSetup) -> None:
    bench = Bench(place.provider, place.environment, MemoryBlobs(), asyncio.Semaphore())
    made = await guarded(bench, "modules", {"tests/test_sets.py": SETS, "tests/test_needs.py": NEEDS})
    copied = {canary.origin for canary in made.plan.canaries if canary.unaltered}
    assert "tests/test_sets.py::test_it" in copied
    assert "tests/test_needs.py::test_it" not in copied
