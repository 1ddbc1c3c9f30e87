"""Questions become tasks in real boxes, and the same question does not become a second one."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from envfarm.core.candidate import Gate
from envfarm.core.question import Question
from envfarm.settings import read
from envfarm.wiring import Farm
from task_builders import workbench
from task_builders.journal import ItemRejected, ItemValid, Journal
from task_builders.minting import Rules
from task_builders.pipeline import BuildResult, NamedSource, Pipeline
from tests.unit.questions.asked import ASKED, pre, question

pytestmark = pytest.mark.slow

TOLD = "<p>I have some rows, each with a name and a number. I want them in the order of the names, and nothing else may change.</p>"


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory outside pytest's own: boxes of other users must be able to see the layers."""
    with TemporaryDirectory(prefix="envfarm-test-", dir="/var/tmp", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)


def asked(*more: str) -> Question:
    return question(TOLD + ASKED, pre("sort x.txt"), pre("awk '{print}' x.txt | sort\n"), *more)


async def build(farm: Farm, name: str, *questions: Question) -> BuildResult:
    stages = await workbench.stages(farm, "local", boxes=2, rules=Rules(repeats=1))
    with Journal(farm.settings.sources / f"{name}.jsonl") as journal:
        pipeline = Pipeline(stages, farm.catalogue, journal, provider="local")
        return await pipeline.run([NamedSource(name, lambda: questions)])


async def test_a_question_becomes_one_task_whatever_sources_it_is_in(home: Path) -> None:
    async with Farm(read().model_copy(update={"home": home})) as farm:
        (item,) = (await build(farm, "first", asked())).finished
        assert isinstance(item, ItemValid), item
        again = await build(farm, "first", asked())
        assert (again.new, again.finished) == (0, (item,))
        (same,) = (await build(farm, "second", asked())).finished
        assert isinstance(same, ItemValid)
        assert same.task == item.task
        (later,) = (await build(farm, "third", asked("<p>Just sort it.</p>"))).finished
        assert isinstance(later, ItemRejected)
        assert later.rejection.gate is Gate.DUPLICATE
        assert later.rejection.detail == item.task_name
        assert later.rejection.evidence["task"] == item.task
        (report,) = await farm.catalogue.reports(item.task)
        assert {attack.reward for attack in report.attacks} == {0.0}
        without_control = {attack.attack for attack in report.attacks if attack.reward_undefended is None}
        assert without_control == {"never ends", "prints without end"}
        assert {attack.reward_undefended for attack in report.attacks if attack.attack not in without_control} == {1.0}
