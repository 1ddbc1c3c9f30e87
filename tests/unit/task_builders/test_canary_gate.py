from dataclasses import replace
from typing import Literal

import pytest

from envfarm.core.candidate import Gate
from envfarm.core.plan import Canary
from envfarm.testing import small_task
from task_builders import minting
from task_builders.validation import canary_gate

A, B = small_task.FAIL_TO_PASS[0], small_task.FAIL_TO_PASS[-1]
OLD = small_task.PASS_TO_PASS[0]


def canary(template: str, origin: str, kind: Literal["inverted", "renamed"]) -> Canary:
    return Canary(kind, template, "tests/test_{token}.py", f"tests/test_{{token}}.py::test_{{token}}_{origin[-4:]}", origin, secret=True)


BOUND = (canary("0", A, "inverted"), canary("0", B, "renamed"), canary("1", A, "renamed"), canary("1", B, "inverted"))
FREE = (canary("2", A, "inverted"), canary("2", OLD, "renamed"))


def test_templates_of_one_kind_are_left_out() -> None:
    assert canary_gate.binding(BOUND + FREE, small_task.FAIL_TO_PASS) == BOUND


TOLD = tuple(replace(one, secret=False) for one in BOUND)


@pytest.mark.parametrize(("canaries", "passed"), [(BOUND, True), (TOLD, True), (BOUND + FREE, False), (FREE, False), ((), False)])
def test_a_task_without_copies_of_both_kinds_is_refused(canaries: tuple[Canary, ...], passed: bool) -> None:  # noqa: FBT001
    task = small_task.make()
    result = canary_gate.judge(task.model_copy(update={"plan": replace(task.plan, canaries=canaries)}), ["a note"])
    assert (result.gate, result.passed) == (Gate.CANARIES, passed)
    assert result.evidence["notes"] == ["a note"]
    assert result.evidence["bounded"] == (canaries == BOUND)
    assert ("1 of 256" in result.detail) == (canaries == BOUND)
    assert (result.detail == canary_gate.UNBOUND) == (canaries == TOLD)
    assert minting.REASONS[Gate.CANARIES] == canary_gate.REASON
