"""A tiny project with a bug, minted from its git history to a validated task in the catalogue, in real boxes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from envfarm.core.candidate import Gate
from envfarm.core.validation import ValidationReport
from envfarm.settings import read
from envfarm.testing.git_repository import Repository, python_project
from envfarm.wiring import Farm
from task_builders import report, workbench
from task_builders.journal import ItemRejected, ItemValid, Journal
from task_builders.minting import Rules
from task_builders.pipeline import BuildResult, Pipeline
from task_builders.revalidation import revalidate
from task_builders.sources.source_models import GitSource, NewestCommits
from task_builders.stages import Reach, named_source
from task_builders.validation import examination
from task_builders.validation.attacks.attack import Attack
from task_builders.validation.attacks.library import LIBRARY

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(900)]

BUGGY = '''"""Rockets."""


def countdown(start):
    """Every number from start to zero."""
    return list(range(start, 0, -1))


def fuel_for(distance, spare=1):
    """Litres for a distance."""
    if distance < 0:
        return 0
    return distance * 2 + spare
'''
FIXED = BUGGY.replace("range(start, 0, -1)", "range(start, -1, -1)")
UNGUESSABLE = FIXED + "\n\ndef parachute():\n    return 'open'\n"
OLD_TESTS = """import sys

from rockets import countdown, fuel_for


def test_countdown_begins_at_start():
    assert countdown(3)[0] == 3


def test_fuel():
    assert fuel_for(2) == 5
    assert fuel_for(-1) == 0


def test_paint():
    assert "colorsys" in sys.modules
"""
"""The last test passes only beside `PAINT_TESTS`."""
PAINT_TESTS = """import colorsys


def test_black():
    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
"""
NEW_TESTS = (
    OLD_TESTS
    + """

def test_countdown_ends_at_zero(capsys):
    assert countdown(3) == [3, 2, 1, 0]
    assert countdown(0) == [0]
    assert not capsys.readouterr().err
"""
)
"""`readouterr` stands nowhere in the project: that the runner knows it is asked in a box."""
PARACHUTE_TESTS = (
    NEW_TESTS.replace("countdown, fuel_for", "countdown, fuel_for, parachute") + "\n\ndef test_p():\n    assert parachute() == 'open'\n"
)
REFACTORED = UNGUESSABLE.replace("return distance * 2 + spare", "return spare + 2 * distance")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    made = Repository.make(tmp_path / "rockets")
    start = {"rockets/__init__.py": BUGGY, "tests/test_rockets.py": OLD_TESTS, "tests/test_paint.py": PAINT_TESTS}
    made.commit("Start", {**python_project("rockets"), **start})
    fix = {"rockets/__init__.py": FIXED, "tests/test_rockets.py": NEW_TESTS}
    made.commit("Count down to zero\n\nThe list that `countdown` gives must end with zero, which it never did.", fix)
    added = {"rockets/__init__.py": UNGUESSABLE, "tests/test_rockets.py": PARACHUTE_TESTS}
    made.commit("Make landings softer\n\nThey were too hard for most of our passengers.", added)
    tidied = {"rockets/__init__.py": REFACTORED, "tests/test_rockets.py": PARACHUTE_TESTS + "\n# Tidied.\n"}
    made.commit("Tidy the fuel formula a little", tidied)
    return made.path


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory outside pytest's own: boxes of other users must be able to see the layers."""
    with TemporaryDirectory(prefix="envfarm-test-", dir="/var/tmp", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)


async def mint(farm: Farm, repository: Path) -> BuildResult:
    stages = await workbench.stages(farm, "local", boxes=2, rules=Rules(repeats=2))
    reach = Reach(profile=stages.intake.profile, directory=farm.settings.sources, github_token="", index_url="", told=print)
    source = GitSource(repository=str(repository), name="acme/rockets", commits=NewestCommits(newest=3))
    with Journal(farm.settings.sources / "journal.jsonl") as journal:
        pipeline = Pipeline(stages, farm.catalogue, journal, provider="local", watch=print)
        return await pipeline.run([named_source(source, reach)])


@pytest.mark.parametrize("library", [LIBRARY[::6], pytest.param(LIBRARY, marks=pytest.mark.size)], ids=["some attacks", "all attacks"])
async def test_history_becomes_one_task_and_two_rejections(
    repository: Path, home: Path, library: Sequence[Attack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attack is played in `tests/hacking`, too."""
    monkeypatch.setattr(examination, "LIBRARY", library)
    async with Farm(read().model_copy(update={"home": home})) as farm:
        result = await mint(farm, repository)
        valid = [item for item in result.finished if isinstance(item, ItemValid)]
        rejected = {item.rejection.gate for item in result.finished if isinstance(item, ItemRejected) and item.reached != "record"}
        assert result.complete, result.failed
        assert len(valid) == 1
        assert rejected == {Gate.SUFFICIENCY, Gate.STATES}
        task = await farm.catalogue.get(valid[0].task)
        assert task.plan.fail_to_pass == ("tests/test_rockets.py::test_countdown_ends_at_zero",)
        assert set(task.plan.pass_to_pass) == {
            "tests/test_paint.py::test_black",
            "tests/test_rockets.py::test_countdown_begins_at_start",
            "tests/test_rockets.py::test_fuel",
            "tests/test_rockets.py::test_paint",
        }
        assert "tests/test_rockets.py::test_paint" not in {canary.origin for canary in task.plan.canaries}, "alone it fails"
        assert any(canary.kind == "inverted" for canary in task.plan.canaries)
        (seen,) = await farm.catalogue.reports(valid[0].task)
        check_report(seen)
        assert {attack.attack for attack in seen.attacks} == {attack.name for attack in library}
        assert "2 fail" not in report.card_markdown(task, seen)
        again = await mint(farm, repository)
        assert again.new == 0
        stages = await workbench.stages(farm, "local", boxes=2, rules=Rules(repeats=1, attacks=False))
        spared = await revalidate(task, stages.tools, stages.rules)
        assert (spared.failed, spared.missing, spared.standing) == ((), (Gate.ATTACKS,), "unchecked")
        untold = task.model_copy(update={"tests": {**task.tests, "files/tests/test_rockets.py": PARACHUTE_TESTS.encode()}})
        doubted = await revalidate(untold, stages.tools, Rules(repeats=1, attacks=False, mutants=False))
        assert Gate.SUFFICIENCY in doubted.failed


def check_report(seen: ValidationReport) -> None:
    assert seen.passed
    compared = next(gate.detail for gate in seen.gates if gate.gate == Gate.DECONTAMINATION)
    assert compared == "no list of fingerprints was given: nothing was compared"
    passed = {gate.gate for gate in seen.gates}
    assert {
        Gate.STATES,
        Gate.SUFFICIENCY,
        Gate.LEAK,
        Gate.CANARIES,
        Gate.GOLD,
        Gate.NOP,
        Gate.ATTACKS,
        Gate.EQUIVALENTS,
        Gate.MUTATION,
        Gate.IDS,
    } <= passed
    assert seen.gold == (1.0, 1.0)
    assert seen.nop == (0.0, 0.0)
    assert len(seen.runs) == 6
    assert seen.narrow is False, "the fix's own file alone fails"
    assert all(attack.reward == 0.0 for attack in seen.attacks)
    assert seen.leak_proof["history"]["clean"]
