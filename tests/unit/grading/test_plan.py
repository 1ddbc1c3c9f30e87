"""A plan from anywhere: what cannot be carried out is told by its key when it is read, and not while it grades."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from envfarm.core import plan as plans
from envfarm.core.plan import Canary, Case, PlanError, Skipped
from envfarm.core.plan import TestCommand as Command
from envfarm.core.plan import TestPlan as Plan

COMMAND: dict[str, Any] = {"argv": ["python", "-m", "pytest"], "report": "junit", "timeout_s": 60, "env": {"A": "b"}}
CANARY = {"kind": "inverted", "template": "0.py", "destination": "tests/test_{token}.py", "id": "tests/test_{token}.py::test_{token}"}
PLAN: dict[str, Any] = {
    "schema_version": "1",
    "work_dir": "/testbed",
    "commands": [COMMAND],
    "fail_to_pass": ["tests/test_a.py::test_a"],
    "pass_to_pass": [],
    "test_files": ["tests/test_a.py"],
    "canaries": [CANARY],
    "skipped": [{"id": "t", "reason": "flaky"}],
    "parallel": True,
}


def read(**changed: Any) -> Plan:
    return Plan.from_json(json.dumps({**PLAN, **changed}))


def test_a_plan_is_read_and_written() -> None:
    plan = read()
    assert plan.commands == (Command(("python", "-m", "pytest"), "junit", 60, {"A": "b"}),)
    assert (plan.canaries[0].origin, plan.skipped) == ("", (Skipped("t", "flaky"),))
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("plan.fail_to_pass is not a list of texts", {"fail_to_pass": [3]}),
        ("plan.pass_to_pass is not a list of texts", {"pass_to_pass": "tests/test_a.py::test_a"}),
        ("plan.work_dir is not a text", {"work_dir": None}),
        ("plan.mode is not isolated, replayed or shared", {"mode": "isolate"}),
        ("commands.argv is not a list of texts", {"commands": [{**COMMAND, "argv": [None]}]}),
        ("commands.argv is empty", {"commands": [{**COMMAND, "argv": []}]}),
        ("commands.timeout_s is not a number above 0", {"commands": [{**COMMAND, "timeout_s": "soon"}]}),
        ("commands.timeout_s is not a number above 0", {"commands": [{**COMMAND, "timeout_s": float("nan")}]}),
        ("commands.timeout_s is not a number above 0", {"commands": [{**COMMAND, "timeout_s": True}]}),
        ("commands.env is not an object of texts", {"commands": [{**COMMAND, "env": {"A": 1}}]}),
        ("commands.env is not an object of texts", {"commands": [{**COMMAND, "env": []}]}),
        ("commands.ok_exit_codes is not a list of whole numbers", {"commands": [{**COMMAND, "ok_exit_codes": ["0"]}]}),
        ("commands lacks report", {"commands": [{k: v for k, v in COMMAND.items() if k != "report"}]}),
        ("commands is not a list", {"commands": {}}),
        ("canaries.kind is not inverted or renamed", {"canaries": [{**CANARY, "kind": "turned"}]}),
        ("canaries.id is not a text", {"canaries": [{**CANARY, "id": ["x"]}]}),
        ("skipped.reason is not a text", {"skipped": [{"id": "t", "reason": 7}]}),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_by_its_key(key: str, changed: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match=key):
        read(**changed)


def test_every_field_has_a_shape() -> None:
    read_before = {"commands", "canaries", "cases", "skipped"}
    every = {(f.name, str(f.type)) for kind in (Case, Command, Canary, Skipped, Plan) for f in fields(kind)}
    assert [name for name, kind in every if kind not in plans._SHAPES and name not in read_before] == []


def test_a_canary_tells_its_copy_only_where_the_id_does_not() -> None:
    canaries = tuple(
        Canary("renamed", "0.py", "t.py", f"t.py::A::test_{{token}}{rest}", "o", copy=copy) for rest, copy in (("", ""), ("_1", "c"))
    )
    text = replace(Plan.from_json(json.dumps(PLAN)), canaries=canaries).to_json()
    assert text.count('"copy"') == 1
    assert Plan.from_json(text).canaries == canaries
