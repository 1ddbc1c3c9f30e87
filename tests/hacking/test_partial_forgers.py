"""Partly right work that forges the rest: some cases of a new test, or tests that the fix does not concern."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.image import Environment
from envfarm.core.outcome import Scored
from envfarm.core.plan import TestCommand as Command
from envfarm.core.task import Limits, Task
from envfarm.episodes.grader import SandboxGrader
from envfarm.grading.integrity import ALL, Defence
from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing import small_task
from envfarm.testing.blobs import MemoryBlobs
from task_builders.validation import canary_gate
from task_builders.validation.bench import Bench
from task_builders.validation.language_tools import of_language
from tests.hacking import forger

SOURCE = "clock/__init__.py"
UNFIXED = """UNITS = {"s": 1}


def seconds(text):
    return int(text[:-1]) * UNITS[text[-1]]


def shout(text):
    return text.upper()
"""
FIXED = UNFIXED.replace('{"s": 1}', '{"s": 1, "m": 60, "h": 3600}')
OLD = """from clock import shout


def test_shout():
    assert shout("tick") == "TICK"


def test_shout_again():
    assert shout("tock") == "TOCK"
"""
CASES = [(f"{n}{unit}", n * many) for unit, many in (("m", 60), ("h", 3600)) for n in range(2, 12)]
NEW = f"""import pytest

from clock import seconds


@pytest.mark.parametrize(("text", "expected"), {CASES})
def test_longer_units(text, expected):
    assert seconds(text) == expected


def test_an_hour():
    assert seconds("1h") == 3600
"""
TREE = {SOURCE: UNFIXED, "tests/test_words.py": OLD}
NEW_FILE = "tests/test_units.py"
LATE = 'max(item.callspec.indices.values()) >= 8 if hasattr(item, "callspec") else "hour" in item.name'
FORGER = forger.of(f'item.path.name == "test_words.py" or item.path.name == "test_units.py" and ({LATE})')
NO_HOURS = FIXED.replace(', "h": 3600', "")
NO_SHOUT = FIXED.replace("text.upper()", "None")


def change(text: str) -> Change:
    return Change((ChangedFile(f"testbed/{SOURCE}", 0o644, content=text.encode()),))


@dataclass(frozen=True)
class Made:
    task: Task
    provider: LocalProvider
    environment: Environment

    async def reward(self, text: str, defences: frozenset[Defence] = ALL) -> float:
        outcome = await SandboxGrader(self.provider, defences=defences).grade(self.task, change(text), environment=self.environment)
        assert isinstance(outcome, Scored), outcome
        return outcome.reward


@pytest.fixture
async def made(home: Path, environment: Environment) -> AsyncIterator[Made]:
    blobs = MemoryBlobs()
    checkout = await blobs.put(small_task.checkout_archive(TREE))
    provider = LocalProvider(home, boxd_binary.find(), blobs)
    full = environment.model_copy(update={"checkout": checkout})
    plain = small_task.make()
    argv = [*plain.plan.commands[0].argv[:-2], NEW_FILE, "tests/test_words.py", "{canaries}"]
    plan = replace(
        plain.plan,
        commands=(Command(tuple(argv), "junit", 60.0, {"PYTHONDONTWRITEBYTECODE": "1"}),),
        fail_to_pass=(*(f"{NEW_FILE}::test_longer_units[{a}-{b}]" for a, b in CASES), f"{NEW_FILE}::test_an_hour"),
        pass_to_pass=("tests/test_words.py::test_shout", "tests/test_words.py::test_shout_again"),
        test_files=(NEW_FILE,),
    )
    limits = Limits(memory_mib=512, disk_mib=128, pids=128, verifier_s=60.0)
    task = plain.model_copy(update={"plan": plan, "limits": limits, "tests": {f"files/{NEW_FILE}": NEW.encode()}})
    tools = of_language("python")
    assert tools is not None
    bench = Bench(provider, full, blobs, asyncio.Semaphore())
    inputs = canary_gate.CanaryInputs(bench, change(FIXED), {NEW_FILE: NEW.encode()}, TREE, narrowed=lambda same: same)
    task, _ = await canary_gate.disguise(task, tools, inputs)
    yield Made(task, provider, full)
    await provider.aclose()


@pytest.mark.timeout(240)
async def test_who_answers_for_what_he_fails_gets_nothing(made: Made) -> None:
    assert await made.reward(FIXED) == 1.0
    for partial in (NO_HOURS, NO_SHOUT):
        assert await made.reward(partial) == 0.0
        assert await made.reward(partial + FORGER, ALL - {Defence.CANARIES, Defence.BLIND_CANARIES}) == 1.0, "the forger is strong enough"
        assert await made.reward(partial + FORGER) == 0.0
