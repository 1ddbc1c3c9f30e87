"""A state that hangs costs its whole time once; what is known of it then bounds the other runs, and the verdict is the same."""

import asyncio
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.core.task import Task
from envfarm.core.validation import State
from envfarm.testing import small_task
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider
from task_builders.minting import Mint, Rules
from task_builders.validation import cost, measure, nop, states
from task_builders.validation.bench import Bench
from task_builders.validation.examination import Examination
from task_builders.validation.scoring import MORE_S, SLOWER, Score

FULL_S = 600.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOLD_S = 2.0
BRIEF_S = SLOWER * GOLD_S + MORE_S
LABELS = f"{small_task.WORK_DIR}/shelf/labels.py"
GOLD = Change((ChangedFile(LABELS.strip("/"), 0o644, content=small_task.FIXED.encode()),))


class Machine:
    """Boxes whose suite hangs where the fix's tests meet the unfixed code, and the time limits that its runs got. Nothing is waited for."""

    def __init__(self, *, hangs: bool = True) -> None:
        self.limits_s: dict[State, list[float]] = defaultdict(list)
        self._hangs = hangs
        environment = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir=small_task.WORK_DIR)
        self.bench = Bench(ScriptedProvider(answer=self._answer), environment, MemoryBlobs(), asyncio.Semaphore(2))

    async def _answer(self, box: ScriptedBox, request: ExecRequest) -> ExecResult:
        if "pytest" not in request.argv:
            return ExecResult(exit_code=int(any("reward.json" in word for word in request.argv)), stdout=b"python\n/site")
        fixed = box.files.get(LABELS) == small_task.FIXED.encode()
        with_tests = any(path.startswith(f"{small_task.WORK_DIR}/tests/") for path in box.files)
        state = states.WITH_FIX if fixed else states.WITH_TESTS if with_tests else states.BASE
        self.limits_s[state].append(request.timeout_s)
        if state == states.WITH_TESTS and self._hangs:
            return ExecResult(exit_code=None, signal=9, timed_out=True, duration_s=request.timeout_s)
        path = next(argument.partition("=")[2] for argument in request.argv if argument.startswith("--junitxml="))
        box.files[path] = report(passing=fixed)
        return ExecResult(exit_code=0 if fixed else 1, duration_s=GOLD_S)


def report(*, passing: bool) -> bytes:
    """Of a suite in which the tests that the fix is for pass, or fail."""
    said = "" if passing else "<failure/>"
    names = [test.split("::") for test in small_task.FAIL_TO_PASS]
    dotted = [(".".join([file.removesuffix(".py").replace("/", "."), *classes]), name, file) for file, *classes, name in names]
    cases = [f'<testcase classname="{where}" name="{name}" file="{file}">{said}</testcase>' for where, name, file in dotted]
    return f"<testsuites>{''.join(cases)}</testsuites>".encode()


@pytest.fixture
def task() -> Task:
    task = small_task.make()
    commands = tuple(replace(command, timeout_s=FULL_S) for command in task.plan.commands)
    limits = task.limits.model_copy(update={"verifier_s": FULL_S})
    return task.model_copy(update={"plan": replace(task.plan, commands=commands), "limits": limits})


async def test_a_state_that_hung_gets_less_in_its_other_runs_and_the_verdict_stays(task: Task) -> None:
    machine = Machine()
    first = await measure.first_round(machine.bench, task, GOLD)
    measured = await measure.other_rounds(machine.bench, task, GOLD, first, repeats=5)
    assert machine.limits_s == {
        states.BASE: [FULL_S] * 5,
        states.WITH_TESTS: [FULL_S, *[BRIEF_S] * 4],
        states.WITH_FIX: [FULL_S] * 5,
    }
    assert [run.timed_out for run in measured.runs if run.state == states.WITH_TESTS] == [True] * 5
    assert measured.verdict.fail_to_pass == first.verdict.fail_to_pass == tuple(sorted(small_task.FAIL_TO_PASS))
    assert (measured.verdict.repeats, measured.verdict.ledger) == (5, ())


@pytest.mark.parametrize(("hangs", "others_s"), [(True, BRIEF_S), (False, FULL_S)])
async def test_nop_that_hung_gets_less_in_its_other_runs_and_scores_0(task: Task, *, hangs: bool, others_s: float) -> None:
    machine = Machine(hangs=hangs)
    scores = await nop.run(machine.bench, task, 3, gold_s=GOLD_S)
    assert machine.limits_s == {states.WITH_TESTS: [FULL_S, others_s, others_s]}
    assert [(score.reward, score.timed_out) for score in scores] == [(0.0, hangs)] * 3


@pytest.mark.parametrize(("hung", "most_s"), [(True, BRIEF_S), (False, FULL_S)])
async def test_attacks_on_code_that_hung_get_less(task: Task, *, hung: bool, most_s: float) -> None:
    machine = Machine()
    gold, nothing = Score(reward=1.0, why="", seconds=GOLD_S), Score(reward=0.0, why="", seconds=FULL_S, timed_out=hung)
    examination = Examination(machine.bench, task, solution=GOLD, gold_scores=(gold,), nop_scores=(nothing,))
    await examination.check_attacks()
    assert max(max(limits) for limits in machine.limits_s.values()) == most_s


async def test_what_the_gates_will_take_is_foreseen_of_one_run_of_each_state(task: Task) -> None:
    quick, hung = [await measure.first_round(Machine(hangs=hangs).bench, task, GOLD) for hangs in (False, True)]
    counts = {"repeats": 5, "attacks": 10, "mutants": 4}
    assert cost.of_gates(quick.runs, **counts) == (4 * 3 + 7 + 5 + 20 + 4) * GOLD_S
    assert cost.of_gates(hung.runs, **counts) == (4 * 2 + 7 + 4) * GOLD_S + FULL_S + (4 + 4 + 20) * BRIEF_S


@pytest.mark.parametrize(("box_hours", "too_long"), [(4.0, False), (0.3, True)])
async def test_what_would_take_too_long_is_refused_with_its_figures(task: Task, *, box_hours: float, too_long: bool) -> None:
    machine = Machine()
    first = await measure.first_round(machine.bench, task, GOLD)
    mint = Mint(None, machine.bench, Rules(box_hours=box_hours), bool, lambda: NOW, print)  # type: ignore[arg-type]  # asks no candidate
    refused = mint._too_long(first)
    assert (refused is not None) is too_long
    if refused is not None:
        assert refused.detail.startswith("its gates would take too long: about 0.5 hours of a box, and 0.3 are allowed; ")
        assert refused.detail.endswith("; base 2 s, base + tests 600 s (killed), base + tests + fix 2 s")
