"""The demo's judgement: only its own tasks count, too few of them are a failure, and an outage of yesterday is not one of today."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from envfarm.core import digest
from envfarm.core.outcome import Invalid
from envfarm.core.validation import Cost
from envfarm.settings import read
from envfarm.testing.factories import make_scored, make_spec
from envfarm.wiring import Farm
from task_builders.commands import journal_path
from task_builders.journal import ItemValid, Journal
from tests.unit.stores.test_catalogue import make_report
from tests.unit.stores.test_catalogue import make_task as make_catalogue_task

DEMO = Path(__file__).parents[2] / "examples/demo.py"


@pytest.fixture
def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_too_few_tasks_or_packages_are_reported(demo: ModuleType) -> None:
    four = {f"t{n}": f"p{n % 4}" for n in range(6)}
    assert demo.missing(four, 6, 4) == []
    assert demo.missing(dict.fromkeys(four, "p"), 6, 4) == ["1 packages with a task; 4 were expected"]
    assert len(demo.missing({}, 6, 4)) == 2


def test_gold_is_1_and_nop_0_and_nothing_else_will_do(demo: ModuleType) -> None:
    nop = make_spec(0)
    assert nop.policy.name == "nop"
    gold = nop.model_copy(update={"policy": nop.policy.model_copy(update={"name": "gold"})})
    assert demo.as_promised(nop, make_scored(0.0))
    assert demo.as_promised(gold, make_scored(1.0))
    assert not demo.as_promised(gold, make_scored(0.0))
    assert not demo.as_promised(nop, make_scored(1.0))
    assert not demo.as_promised(nop, Invalid("sandbox", retryable=True, detail="gone"))
    assert not demo.as_promised(gold, None)


async def test_only_the_valid_tasks_of_these_sources_count(demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVFARM_HOME", str(tmp_path))
    sources = tmp_path / "sources.toml"
    tasks = [make_catalogue_task(f"acme/{name}-abcdefgh") for name in ("good", "doubtful", "stranger")]
    async with Farm(read()) as farm:
        for task in tasks:
            await farm.catalogue.add(task)
            await farm.catalogue.add_report(make_report(task))
        await farm.catalogue.quarantine(tasks[1].digest, "doubts")
    assert await demo.tasks_of(sources) == {}
    with Journal(journal_path(read(), sources, "local")) as kept:
        for task in tasks[:2]:
            source = digest.of_bytes(task.name.encode())
            kept.append(
                ItemValid(source_digest=source, project="acme", url="", task=task.digest, task_name=task.name, seconds=1, cost=Cost())
            )
    assert await demo.tasks_of(sources) == {tasks[0].digest: "acme"}
