"""A report says what was actually varied."""

from dataclasses import replace

import pytest

from envfarm.testing import small_task
from task_builders.validation.repeat_conditions import record, variation

PLAN = small_task.make().plan
FILES = ("tests/test_a.py", "tests/test_b.py")


@pytest.mark.parametrize(
    ("named", "repeat", "said"),
    [(FILES, 2, "shuffled by 2"), (FILES, 0, "as planned"), (FILES[:1], 2, "as planned"), (("tests",), 2, "as planned")],
)
def test_files_are_shuffled_where_the_command_names_several(named: tuple[str, ...], repeat: int, said: str) -> None:
    plan = replace(PLAN, test_files=FILES, commands=(replace(PLAN.commands[0], argv=("python", "-m", "pytest", *named)),))
    assert record(variation(repeat), plan)["order of files"] == said
