import asyncio
from dataclasses import replace
from typing import Literal

import pytest

from envfarm.core.candidate import Gate
from envfarm.core.change import Change
from envfarm.core.image import Environment, ImageRef
from envfarm.core.plan import Canary
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.core.task import Limits
from envfarm.testing import small_task
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider
from task_builders import minting
from task_builders.specs import make
from task_builders.validation import canary_gate
from task_builders.validation.bench import Bench
from task_builders.validation.language_tools import PYTHON, of_language

A, B = small_task.FAIL_TO_PASS[0], small_task.FAIL_TO_PASS[-1]
OLD = small_task.PASS_TO_PASS[0]


def canary(template: str, origin: str, kind: Literal["inverted", "renamed"]) -> Canary:
    return Canary(kind, template, "tests/test_{token}.py", f"tests/test_{{token}}.py::test_{{token}}_{origin[-4:]}", origin, secret=True)


BOUND = (canary("0", A, "inverted"), canary("0", B, "renamed"), canary("1", A, "renamed"), canary("1", B, "inverted"))
NAMES = ("near", "needy", "other")
ENVIRONMENT = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir="/testbed")
FREE = (canary("2", A, "inverted"), canary("2", OLD, "renamed"))


def test_templates_of_one_kind_are_left_out() -> None:
    assert canary_gate.binding(BOUND + FREE, small_task.FAIL_TO_PASS) == BOUND


def test_chances_stay_legible() -> None:
    task, tests = small_task.make(), [f"tests/test_labels.py::test_{n}" for n in range(30)]
    shown: list[Canary] = []
    for n, test in enumerate(tests):
        for template in range(2):
            one = canary(str(template), test, "inverted" if n % 2 == template else "renamed")
            shown.append(replace(one, id=f"{one.destination}::test_{{token}}_{n}"))
    plan = replace(task.plan, fail_to_pass=tuple(tests), canaries=tuple(shown))
    assert "1 of 2^89 gradings" in canary_gate.judge(task.model_copy(update={"plan": plan})).detail


TOLD = tuple(replace(one, secret=False) for one in BOUND)


@pytest.mark.parametrize(("canaries", "passed"), [(BOUND, True), (TOLD, True), (BOUND + FREE, False), (FREE, False), ((), False)])
def test_a_task_without_copies_of_both_kinds_is_refused(canaries: tuple[Canary, ...], passed: bool) -> None:  # noqa: FBT001
    task = small_task.make()
    result = canary_gate.judge(task.model_copy(update={"plan": replace(task.plan, canaries=canaries)}), ["a note"])
    assert (result.gate, result.passed) == (Gate.CANARIES, passed)
    assert result.evidence["notes"] == ["a note"]
    assert not result.evidence["bounded"], "there are no texts, so a rule has nothing to get wrong"
    assert ("1 of 256" in result.detail) == (canaries == BOUND)
    assert (result.detail == canary_gate.UNBOUND) == (canaries == TOLD)
    assert (result.detail == f"{canary_gate.REASON} (a note)") == (not passed)
    assert minting.REASONS[Gate.CANARIES] == canary_gate.REASON


async def test_runs_of_copies_end_soon_where_the_suite_is_quick() -> None:
    asked: list[float] = []

    async def answer(_: ScriptedBox, request: ExecRequest) -> ExecResult:
        if any(argument.startswith("--junitxml=") for argument in request.argv):
            asked.append(request.timeout_s)
        return ExecResult(exit_code=0)

    bench = Bench(ScriptedProvider(answer=answer), ENVIRONMENT, MemoryBlobs(), asyncio.Semaphore())
    files = {"tests/test_labels.py": small_task.NEW_TESTS.encode()}
    inputs = canary_gate.CanaryInputs(bench, Change(), files, small_task.TREE, narrowed=lambda same: same, suite_s=1.0)
    tools = of_language("python")
    assert tools is not None
    task = small_task.make(limits=Limits(verifier_s=3600.0))
    await canary_gate.disguise(task, tools, inputs)
    assert asked
    assert max(asked) < 600.0, "a copy that never ends must not hold a build up for hours"


async def test_copies_that_fail_as_gradings_draw_them_are_left_out() -> None:
    async def answer(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        """Report what the copies' own texts say, a test and its result in each line."""
        asked = [argument for argument in request.argv if argument.startswith("tests/test_")]
        cases = ""
        for file in asked:
            for line in box.files[f"/testbed/{file}"].decode().splitlines():
                name, _, result = line.partition(" ")
                classname = file.removesuffix(".py").replace("/", ".")
                cases += f'<testcase classname="{classname}" name="{name}" file="{file}">{"<failure/>" * (result == "fails")}</testcase>'
        path = next(argument.partition("=")[2] for argument in request.argv if argument.startswith("--junitxml="))
        box.files[path] = f"<testsuites>{cases}</testsuites>".encode()
        return ExecResult(exit_code=1 if "<failure/>" in cases else 0)

    def text(template: str) -> str:
        own = [one for one in canaries if one.template == template]
        result = {"inverted": "fails", "renamed": "passes"}
        said = "".join(f"{one.id.partition('::')[2]} {result[one.kind]}\n" for one in own)
        return said.replace("passes", "fails", 1) if template == "needy" else said

    whole = tuple(
        Canary(
            "renamed",
            name,
            f"tests/test_{{token}}_{name}.py",
            f"tests/test_{{token}}_{name}.py::test_{{token}}[{case}]",
            f"{name}[{case}]",
            unaltered=True,
        )
        for name in NAMES
        for case in "ab"
    )
    canaries = BOUND + whole
    plain = small_task.make()
    tests = plain.tests | {f"canaries/{one.template}": text(one.template).encode() for one in canaries}
    task = plain.model_copy(update={"plan": replace(plain.plan, canaries=canaries), "tests": tests})
    bench = Bench(ScriptedProvider(answer=answer), ENVIRONMENT, MemoryBlobs(), asyncio.Semaphore())
    inputs = canary_gate.CanaryInputs(bench, Change(), {}, {}, narrowed=lambda same: same)
    tools = replace(PYTHON, only_copies=lambda template, names: template + " ".join(sorted(names)).encode())
    left = await canary_gate.rehearsed(task, inputs, tools)
    assert left.plan.canaries == tuple(one for one in canaries if one.template != "needy")
    templates = make.templates(left)
    assert templates.keys() == {one.template for one in left.plan.canaries}
    assert all(templates[name].endswith(b"test_{token}") for name in NAMES if name != "needy")
